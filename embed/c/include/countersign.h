// The auth tier in the process of a proxy: docs/embedding.md.
//
// Made by cbindgen of embed/c/src: change it there.

#ifndef COUNTERSIGN_H
#define COUNTERSIGN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// The version of this interface, which `cs_interface_version` of a library for it returns. A change
// of a type or function makes another one.
#define CS_INTERFACE_VERSION 1

// The progress of a check.
typedef enum cs_progress {
  // The decision is written.
  CS_DECIDED = 0,
  // The callback will be called with the decision, once, by another thread.
  CS_PENDING = 1,
} cs_progress;

// A configuration that was read, and is not in use yet.
typedef struct cs_config cs_config;

// The auth tier. Any thread may make checks.
typedef struct cs_tier cs_tier;

// Bytes that are not terminated by a zero. `data` may be null if `length` is 0.
typedef struct cs_text {
  // The first byte.
  const char *data;
  // Number of bytes.
  size_t length;
} cs_text;

// A header line: its name, in any case, and its value, without the whitespace around it.
typedef struct cs_line {
  // The name.
  struct cs_text name;
  // The value.
  struct cs_text value;
} cs_line;

// A request of a client. It has to stay unchanged while `cs_check` runs, and not longer.
typedef struct cs_request {
  // The method.
  struct cs_text method;
  // Path and query, as the client sent them.
  struct cs_text target;
  // The host, with its port if that is given.
  struct cs_text host;
  // The IP address of the connection's peer, as text. Empty for a Unix socket.
  struct cs_text peer;
  // The client's certificate, if the proxy has verified it: PEM, percent-encoded PEM, or base64.
  struct cs_text certificate;
  // The header lines, in the order received. A repeated header is repeated here.
  const struct cs_line *lines;
  // Number of header lines.
  size_t line_count;
  // Whether the request arrived over TLS.
  bool is_tls;
  // Whether the decision has the claims of the token.
  bool wants_claims;
  // Whether the decision omits the changes of an allowed request's header lines, because the
  // proxy's own configuration makes them.
  bool omits_changes;
} cs_request;

// The decision on a request. What it refers to is valid until the next `cs_check` of the same
// thread, or in a callback, until the callback returns.
typedef struct cs_decision {
  // Whether to pass the request on.
  bool is_allowed;
  // The status of the response to a refused request; 200 if it is allowed.
  uint16_t status;
  // Header lines. If the request is allowed, they replace its lines of the same name; otherwise
  // they belong into the response, except `x-auth-error`: it is for the proxy's operator.
  const struct cs_line *lines;
  // Number of header lines.
  size_t line_count;
  // Names of the header lines to remove from an allowed request.
  const struct cs_text *removed;
  // Number of these names.
  size_t removed_count;
  // The body of the response to a refused request.
  struct cs_text body;
  // The subject of the caller; empty without one, as the texts below.
  struct cs_text subject;
  // Its username.
  struct cs_text user;
  // The issuer of its token.
  struct cs_text issuer;
  // The client types of its token, separated by commas.
  struct cs_text client_types;
  // The environment of its token.
  struct cs_text environment;
  // The tenant that it acts for.
  struct cs_text tenant;
  // All claims of its token, as a JSON object, for `cs_claim`. Empty unless the request wants
  // them.
  struct cs_text claims;
} cs_decision;

// Receives a decision that had to wait, on a thread of the tier. It must not block. `context` is
// what was passed to `cs_check`.
typedef void (*cs_callback)(void *context, const struct cs_decision *decision);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the version of the interface of this library. Compare it with `CS_INTERFACE_VERSION`
// before any other call, if the library may be replaced while the program stays: with another
// version, types and functions differ.
uint32_t cs_interface_version(void);

// Reads a configuration file of the server, and all files that it refers to. It starts no thread,
// so a process may fork afterwards. Returns null on failure, and writes the reason to `error`, as
// text of at most `error_size` bytes with a terminating zero.
//
// `file` is the path, terminated by a zero. `error` may be null if `error_size` is 0.
//
// # Safety
// The pointers are as stated.
struct cs_config *cs_config_load(const char *file, char *error, size_t error_size);

// Frees a configuration that is not started. Does nothing with null.
//
// # Safety
// `config` is null, or of `cs_config_load` and not passed to another function at the same time or
// later.
void cs_config_free(struct cs_config *config);

// Returns the index of the listener with this name, whose rules a check can be made by: `main`, or
// the name of a section without `listener_`. Returns -1 without such a listener.
//
// # Safety
// `config` is of `cs_config_load`, and `name` is terminated by a zero.
ptrdiff_t cs_config_listener(const struct cs_config *config, const char *name);

// Starts the tier with a configuration, which is freed in any case. Call it in the process that
// makes the checks: after a fork, a tier of the parent refuses all requests with 503. Returns null
// on failure, and writes the reason to `error` as `cs_config_load` does.
//
// # Safety
// `config` is of `cs_config_load` and not used again. `error` is as of `cs_config_load`.
struct cs_tier *cs_tier_start(struct cs_config *config, char *error, size_t error_size);

// Stops the tier and frees it. Checks that wait are refused with 503 before this returns or soon
// after it. Does nothing with null.
//
// # Safety
// `tier` is null, or of `cs_tier_start` and not passed to another function at the same time or
// later.
void cs_tier_stop(struct cs_tier *tier);

// Reads the configuration again, in the background. A configuration with mistakes changes nothing.
// Changed files are noticed without this call.
//
// # Safety
// `tier` is of `cs_tier_start`.
void cs_tier_reload(const struct cs_tier *tier);

// Whether keys and revocations have been read, so that good tokens are accepted.
//
// # Safety
// `tier` is of `cs_tier_start`.
bool cs_tier_is_ready(const struct cs_tier *tier);

// Decides about a request by the rules of a listener, of which `listener` is the index. Never
// blocks. Writes the decision and returns `CS_DECIDED`, or returns `CS_PENDING`: `callback` is
// then called with `context` and the decision, once, by another thread, which may happen before
// this returns. With a null `callback`, nothing is started: repeat the call with one.
//
// # Safety
// `tier` is of `cs_tier_start`. `request` and `decision` point to one each, and the texts of
// `request` are as stated there. `context` may be used by another thread.
enum cs_progress cs_check(const struct cs_tier *tier,
                          size_t listener,
                          const struct cs_request *request,
                          struct cs_decision *decision,
                          cs_callback callback,
                          void *context);

// Writes a claim to `buffer`, for use in a header: a string with all but visible ASCII
// percent-encoded, and any other value as JSON in visible ASCII. Returns its length, of which at
// most `size` bytes are written, or -1 without this claim.
//
// `claims` is that of a decision, or a copy.
//
// # Safety
// The texts are as stated at their type, and `buffer` has `size` bytes.
ptrdiff_t cs_claim(struct cs_text claims, struct cs_text name, char *buffer, size_t size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* COUNTERSIGN_H */
