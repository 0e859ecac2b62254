// Load test over HTTP/1.1, or HTTP/2 with TLS, with k6. Checks status and reason of every answer.
//
// Usage: k6 run [-e URL=http://127.0.0.1:8888] [-e DURATION=10] [-e CONNECTIONS=8]
//        [-e MIN_RATE=1000] [-e MAX_P99_MS=50] deploy/loadtest/k6.js

import http from 'k6/http';
import { Counter, Rate } from 'k6/metrics';

const url = __ENV.URL || 'http://127.0.0.1:8888';
const limits = {
  right_answers: ['rate==1'],
  wrong_answers_by_target: ['count==0'],
  http_reqs: [`rate>=${__ENV.MIN_RATE || 1000}`],
  http_req_duration: [`p(99)<=${__ENV.MAX_P99_MS || 50}`],
};

export const options = {
  vus: Number(__ENV.CONNECTIONS || 8),
  duration: `${__ENV.DURATION || 10}s`,
  thresholds: limits,
  summaryTrendStats: ['med', 'p(90)', 'p(99)', 'max'],
};

const right = new Rate('right_answers');
const wrongByTarget = new Counter('wrong_answers_by_target');

// Gets the tokens of the target, and sets its counters to zero.
export function setup() {
  const corpus = http.get(`${url}/corpus`);
  if (corpus.status !== 200) {
    throw new Error(`${url}/corpus: start it with countersign serve --profile loadtest`);
  }
  http.del(`${url}/stats`);
  const lines = corpus.body.split('\n').filter(Boolean).map((line) => line.split('\t'));
  return lines.map(([kind, status, , token, reason]) => {
    return { kind, status: Number(status), token, reason };
  });
}

export default function (corpus) {
  const expected = corpus[Math.floor(Math.random() * corpus.length)];
  const headers = { Authorization: `Bearer ${expected.token}` };
  // A refusal is not a failure.
  const responseCallback = http.expectedStatuses(200, 401);
  const response = http.get(`${url}/auth`, { headers, responseCallback });
  const challenge = response.headers['Www-Authenticate'] || '';
  const isRight = response.status === expected.status && challenge.includes(expected.reason);
  right.add(isRight);
  if (!isRight) {
    const { kind, status, reason } = expected;
    console.error(`${kind}: expected ${status} ${reason}, got ${response.status} ${challenge}`);
  }
}

// Adds the judgement of the target.
export function teardown() {
  const stats = http.get(`${url}/stats`).json();
  wrongByTarget.add(stats.checks > 0 ? stats.wrong : 1);
}

// Prints the table of thresholds. k6 exits with 99 if one is missed.
export function handleSummary(data) {
  const rows = Object.keys(limits).flatMap((name) => {
    const { thresholds = {}, values = {} } = data.metrics[name] || {};
    return limits[name].map((limit) => {
      const mark = thresholds[limit] && thresholds[limit].ok ? '✓' : '✗';
      const value = values[limit.match(/^[a-z]+(\(\d+\))?/)[0]];
      const shown = value === undefined ? 'unknown' : String(Math.round(value * 1000) / 1000);
      return `${mark} ${name.padEnd(30)} ${shown.padStart(12)}  ${limit}`;
    });
  });
  return { stdout: `\n${rows.join('\n')}\n` };
}
