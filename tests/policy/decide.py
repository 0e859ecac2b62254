"""Decides about inputs with rego-cpp: decide.py POLICY DATA INPUTS, a JSON input per line.

Prints true or false per line.
"""

import json
import sys

from regopy import Interpreter

policy, data, inputs = sys.argv[1:]
interpreter = Interpreter()
with open(policy, encoding="utf-8") as file:
    interpreter.add_module("policy", file.read())
with open(data, encoding="utf-8") as file:
    interpreter.add_data(json.load(file))
bundle = interpreter.build("data.policy.allow", ["policy/allow"])
with open(inputs, encoding="utf-8") as file:
    for line in file:
        interpreter.set_input(json.loads(line))
        output = interpreter.query_bundle(bundle)
        # An expression that is false has no result.
        assert output.ok(), line
        print(json.dumps(str(output) != "undefined"))
