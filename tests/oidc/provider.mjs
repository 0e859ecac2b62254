// A certified OpenID provider for the tests, on loopback and controlled over pipes.
//
// It prints one line of JSON, {"issuer":"http://127.0.0.1:PORT"}, when it listens.
// Then it prints one line of JSON for each command on standard input:
//
//   {"command":"token","alg":"RS256"}  ->  {"token":"..."}
//   {"command":"rotate"}               ->  {"kids":["...","..."]}
//   {"command":"requests"}             ->  {"jwks":1,"discovery":1}
//
// It exits at the end of standard input.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

const KEYS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
};
const AUDIENCE = 'https://service.example/';
const SCOPE = 'read';
const CLIENT_SECRET = 'known-to-everyone';
const ROUTES = { jwks: '/jwks', token: '/token' };

// Standard output is reserved for responses and standard error for failures, so the
// provider's own messages are suppressed.
console.info = console.warn = () => {};
const { default: Provider } = await import('oidc-provider');

const requests = { [ROUTES.jwks]: 0, '/.well-known/openid-configuration': 0 };
let respond;
const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (path in requests) requests[path] += 1;
  respond(request, response);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

// The keys of a provider are fixed at construction, so a rotation creates a new provider
// behind the same server.
function rotate() {
  const keys = Object.entries(KEYS).map(([alg, generate]) => {
    const jwk = generate().privateKey.export({ format: 'jwk' });
    return { ...jwk, alg, use: 'sig', kid: randomUUID() };
  });
  respond = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(KEYS).map(clientFor),
    routes: ROUTES,
    scopes: [SCOPE],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo },
    },
  }).callback();
  return { kids: keys.map(({ kid }) => kid) };
}

// One client per algorithm, named after it.
function clientFor(alg) {
  return {
    client_id: alg,
    client_secret: CLIENT_SECRET,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  };
}

function getResourceServerInfo(_context, resource, client) {
  return { audience: resource, scope: SCOPE, accessTokenFormat: 'jwt', jwt: { sign: { alg: client.clientId } } };
}

async function token({ alg }) {
  const response = await fetch(issuer + ROUTES.token, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${alg}:${CLIENT_SECRET}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource: AUDIENCE, scope: SCOPE }),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(`no token for ${alg}: ${JSON.stringify(body)}`);
  return { token: body.access_token };
}

const commands = {
  token,
  rotate,
  requests: () => {
    const [jwks, discovery] = Object.values(requests);
    return { jwks, discovery };
  },
};

function send(response) {
  process.stdout.write(`${JSON.stringify(response)}\n`);
}

rotate();
send({ issuer });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  send(await commands[request.command](request));
}
process.exit();
