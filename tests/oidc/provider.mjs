// A certified OpenID provider for the tests, on loopback and controlled over pipes.
//
// It prints one line of JSON, {"issuer":"http://127.0.0.1:PORT"}, when it listens.
// Then it prints one line of JSON for each command on standard input:
//
//   {"command":"token","alg":"RS256"}  ->  {"token":"..."}
//   {"command":"rotate"}               ->  {"kids":["...","..."]}
//   {"command":"requests"}             ->  {"jwks":1,"discovery":1,"token":1,"revoked":1}
//   {"command":"set","deny":true}      ->  {}
//   {"command":"logout","sid":"..."}   ->  {"body":"logout_token=..."}, with "sub":null without one
//
// Users sign in to the public client "console", by authorization code, without a password. "set"
// changes how: "deny" refuses the user, "ahead" sets the clock of the provider, in seconds,
// "lifetime" is that of access tokens, in seconds, "refresh" whether it issues refresh tokens, and
// "revocation" whether it revokes them. The command "requests" also counts the revoked ones.
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
const ROUTES = { jwks: '/jwks', token: '/token', revocation: '/token/revocation' };
const CONSOLE = 'console';
const ACCOUNT = 'u1';
const ORIGINS = ['http://localhost:8888', 'https://localhost:8888', 'https://test'];
const behaviour = { deny: false, ahead: 0, lifetime: 3600, refresh: true, revocation: true };

const wallClock = Date.now;
Date.now = () => wallClock() + behaviour.ahead * 1000;

// Standard output is reserved for responses and standard error for failures, so the
// provider's own messages are suppressed.
console.info = console.warn = () => {};
const { default: Provider } = await import('oidc-provider');

const requests = { [ROUTES.jwks]: 0, '/.well-known/openid-configuration': 0, [ROUTES.token]: 0 };
let provider;
let lastLogout;
let revoked = 0;
const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (path in requests) requests[path] += 1;
  if (path.startsWith('/interaction/')) return interact(request, response);
  if (path === ROUTES.revocation && !behaviour.revocation) return response.writeHead(503).end();
  return provider.callback()(request, response);
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
  provider = new Provider(issuer, {
    jwks: { keys },
    clients: [...Object.keys(KEYS).map(clientFor), consoleClient],
    routes: ROUTES,
    scopes: [SCOPE, 'openid', 'offline_access'],
    claims: { profile: ['preferred_username'], email: ['email'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      backchannelLogout: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
      },
    },
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_context, client) =>
      behaviour.refresh && client.grantTypeAllowed('refresh_token'),
    findAccount: (_context, id) => ({ accountId: id, claims: () => claimsOf(id) }),
    extraTokenClaims: (_context, { accountId }) => accountId && claimsOf(accountId),
    loadExistingGrant,
    // The provider sends logout tokens to public addresses only.
    fetch: async (_url, { body }) => {
      lastLogout = String(body);
      return new Response(null, { status: 200 });
    },
  });
  provider.on('refresh_token.destroyed', () => { revoked += 1; });
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

const consoleClient = {
  client_id: CONSOLE,
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: ORIGINS,
  post_logout_redirect_uris: ORIGINS,
  backchannel_logout_uri: `${ORIGINS[1]}/console/back-channel-logout`,
  backchannel_logout_session_required: true,
};

function claimsOf(id) {
  return { sub: id, preferred_username: `${id}@example`, email: `${id}@example` };
}

// Grants everything without a question.
async function loadExistingGrant({ oidc }) {
  const { clientId } = oidc.client;
  const grant = new oidc.provider.Grant({ clientId, accountId: oidc.session.accountId });
  grant.addOIDCScope('openid profile email offline_access');
  grant.addResourceScope(AUDIENCE, SCOPE);
  await grant.save();
  return grant;
}

// Signs the user in, or refuses.
function interact(request, response) {
  const result = behaviour.deny
    ? { error: 'access_denied', error_description: 'the user may not use this application' }
    : { login: { accountId: ACCOUNT } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

function getResourceServerInfo(_context, resource, client) {
  const alg = client.clientId in KEYS ? client.clientId : 'RS256';
  const { lifetime: accessTokenTTL } = behaviour;
  const jwt = { sign: { alg } };
  return { audience: resource, scope: SCOPE, accessTokenFormat: 'jwt', accessTokenTTL, jwt };
}

async function logout({ sid, sub = ACCOUNT }) {
  const client = await provider.Client.find(CONSOLE);
  await client.backchannelLogout(sub ?? undefined, sid);
  return { body: lastLogout };
}

function set({ command, ...changes }) {
  Object.assign(behaviour, changes);
  return {};
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
  logout,
  set,
  requests: () => {
    const [jwks, discovery, token] = Object.values(requests);
    return { jwks, discovery, token, revoked };
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
