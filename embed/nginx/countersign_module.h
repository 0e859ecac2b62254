// What the files of the module share.
#ifndef COUNTERSIGN_MODULE_H
#define COUNTERSIGN_MODULE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <countersign.h>

// Header lines of a request that need no memory of the pool.
#define COUNTERSIGN_USUAL_LINES 48

typedef struct {
    ngx_str_t file;
    // NULL without a file, and in a worker.
    cs_config *config;
    // NULL outside of a worker, and if it cannot start.
    cs_tier *tier;
    // Whether a variable shows a claim, so that the claims are kept.
    ngx_flag_t keeps_claims;
} countersign_main_conf_t;

extern ngx_module_t ngx_http_countersign_module;

// The texts of a decision that variables show, in the request's pool.
typedef struct {
    ngx_str_t subject;
    ngx_str_t user;
    ngx_str_t issuer;
    ngx_str_t client_types;
    ngx_str_t environment;
    ngx_str_t tenant;
    ngx_str_t claims;
} countersign_identity_t;

typedef struct countersign_pending_s countersign_pending_t;

// A header line of a refusal.
typedef struct {
    ngx_str_t name;
    ngx_str_t value;
    // The line in the response, if this refusal has added it.
    ngx_table_elt_t *added;
} countersign_line_t;

// A request that is checked.
typedef struct {
    // The status of a refusal, or 200. 0 until the decision has arrived.
    ngx_uint_t status;
    countersign_identity_t identity;
    // Header lines of the response, each a countersign_line_t, if the request is refused.
    ngx_array_t *lines;
} countersign_request_t;

// Writes a request as the tier reads it. Its header lines are in `usual`, or in memory of its pool.
ngx_int_t countersign_describe(ngx_http_request_t *r, cs_request *request, cs_line *usual);

// Keeps a decision in the pool of the request that it is about.
ngx_int_t countersign_keep(ngx_http_request_t *r, countersign_request_t *checked,
    const cs_decision *decision);

// Adds the header lines of a refusal to the response, and returns its status.
ngx_int_t countersign_refuse(ngx_http_request_t *r, countersign_request_t *checked);

// Removes these lines again, if another module has allowed the request.
void countersign_withdraw(countersign_request_t *checked);

// Adds the variables, before the configuration is read.
ngx_int_t countersign_add_variables(ngx_conf_t *cf);

// The directive of a variable that shows a claim of any name.
char *countersign_set_claim(ngx_conf_t *cf, ngx_command_t *command, void *data);

// Whether the configuration uses a variable whose name ends with that of a claim.
ngx_flag_t countersign_uses_claims(ngx_cycle_t *cycle);

// Prepares the process for decisions that wait. Returns NGX_ERROR without file descriptors.
ngx_int_t countersign_pending_init(ngx_cycle_t *cycle);

// Releases what that has taken. No thread of a tier may run any more.
void countersign_pending_stop(void);

// Returns a decision that waits, which ends with the request.
countersign_pending_t *countersign_pending_create(ngx_http_request_t *r,
    countersign_request_t *checked);

// The callback of cs_check; `context` is the countersign_pending_t.
void countersign_decided(void *context, const cs_decision *decision);

#endif
