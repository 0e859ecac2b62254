// Runs a k6 script with stand-ins for the parts of k6's modules that it uses: 40 iterations, one
// after the other. With OTHER_CORPUS=1, the tokens of the corpus are damaged.
//
// Usage: node stand_in.mjs SCRIPT

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const ITERATIONS = 40;
const metrics = {};

function metricOf(name) {
  metrics[name] ??= { samples: [] };
  return metrics[name];
}

class Metric {
  constructor(name) {
    this.metric = metricOf(name);
  }

  add(value) {
    this.metric.samples.push(Number(value));
  }
}

// Sends a request with curl, because the calls of k6 block.
function send(method, url, params = {}) {
  const headers = Object.entries(params.headers ?? {}).flatMap(([name, value]) => [
    '--header',
    `${name}: ${value}`,
  ]);
  const started = performance.now();
  const options = ['--silent', '--include', '--request', method, ...headers, url];
  const text = execFileSync('curl', options, { encoding: 'utf8' });
  const [head, ...rest] = text.split('\r\n\r\n');
  metricOf('http_req_duration').samples.push(performance.now() - started);
  metricOf('http_reqs').samples.push(1);
  const [line, ...fields] = head.split('\r\n');
  const canonical = (name) => name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());
  const pairs = fields.map((field) => field.split(/:\s*/, 2));
  const body = rest.join('\r\n\r\n');
  return {
    status: Number(line.split(' ')[1]),
    headers: Object.fromEntries(pairs.map(([name, value]) => [canonical(name), value])),
    body,
    json: () => JSON.parse(body),
  };
}

const http = {
  get: (url, params) => {
    const response = send('GET', url, params);
    if (process.env.OTHER_CORPUS && url.endsWith('/corpus')) {
      response.body = response.body.replaceAll(/.{9}(\t[^\t\n]*)$/gm, 'AAAAAAAAA$1');
    }
    return response;
  },
  del: (url) => send('DELETE', url),
  expectedStatuses: (...statuses) => statuses,
};

// Returns the value of a metric that the name in a threshold stands for.
function valueOf(samples, name, seconds) {
  const sum = samples.reduce((left, right) => left + right, 0);
  const sorted = [...samples].sort((left, right) => left - right);
  // The rate of a counter is by time.
  const divisor = name === 'http_reqs' ? seconds : samples.length;
  return {
    rate: sum / divisor,
    count: sum,
    'p(99)': sorted[Math.ceil(samples.length * 0.99) - 1],
  };
}

const source = readFileSync(process.argv[2], 'utf8').replaceAll(/^import .*$/gm, '');
globalThis.__ENV = process.env;
globalThis.k6Stand = { http, Counter: Metric, Rate: Metric };
const prelude = 'const { http, Counter, Rate } = globalThis.k6Stand;\n';
const script = await import(`data:text/javascript,${encodeURIComponent(prelude + source)}`);

const started = performance.now();
const corpus = script.setup();
for (let iteration = 0; iteration < ITERATIONS; iteration += 1) {
  script.default(corpus);
}
script.teardown(corpus);
const seconds = (performance.now() - started) / 1000;

let isMissed = false;
const data = { metrics: {} };
for (const [name, limits] of Object.entries(script.options.thresholds)) {
  const values = valueOf(metricOf(name).samples, name, seconds);
  const thresholds = {};
  for (const limit of limits) {
    const [, value, comparison, bound] = limit.match(/^(.+?)(==|<=|>=)(.+)$/);
    const compared = values[value] - Number(bound);
    const ok = { '==': compared === 0, '<=': compared <= 0, '>=': compared >= 0 }[comparison];
    thresholds[limit] = { ok };
    isMissed ||= !ok;
  }
  data.metrics[name] = { values, thresholds };
}
process.stdout.write(script.handleSummary(data).stdout);
process.exitCode = isMissed ? 99 : 0;
