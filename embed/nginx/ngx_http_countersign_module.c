// nginx with the auth tier in its workers: docs/embedding.md.
//
//     countersign /etc/countersign/auth.cfg;     # http: the server's configuration file
//     countersign_claim $roles realmRoles;       # http: a variable of any claim
//     countersign_check on;                      # http, server, location: on, off, or a listener
//
// The master reads the configuration, with its rights, and each worker starts a tier of its own.
// Requests are checked in the access phase, so `satisfy` holds, subrequests are not checked, and an
// internal redirect is checked by the rules of the location that it leads to.

#include "countersign_module.h"

#include <signal.h>

#define CHECK_OFF -1

typedef struct {
    // The index of a listener, or CHECK_OFF.
    ngx_int_t listener;
    // Its name, until the configuration is read.
    ngx_str_t name;
} location_conf_t;

// ---- the access phase ----

// Makes the check. The decision is kept in `checked`, or arrives later.
static ngx_int_t
check(ngx_http_request_t *r, cs_tier *tier, ngx_int_t listener, countersign_request_t *checked)
{
    cs_line usual[COUNTERSIGN_USUAL_LINES];
    cs_request request;
    cs_decision decision;
    countersign_pending_t *pending;

    if (countersign_describe(r, &request, usual) != NGX_OK) {
        return NGX_ERROR;
    }
    if (cs_check(tier, listener, &request, &decision, NULL, NULL) == CS_DECIDED) {
        return countersign_keep(r, checked, &decision);
    }
    pending = countersign_pending_create(r, checked);
    if (pending == NULL) {
        return NGX_ERROR;
    }
    // Notices a client that leaves.
    r->read_event_handler = ngx_http_test_reading;
    if (cs_check(tier, listener, &request, &decision, countersign_decided, pending) == CS_DECIDED) {
        // The keys have arrived between the two calls.
        countersign_decided(pending, &decision);
    }
    return NGX_OK;
}

static ngx_int_t
access_handler(ngx_http_request_t *r)
{
    countersign_main_conf_t *conf = ngx_http_get_module_main_conf(r, ngx_http_countersign_module);
    location_conf_t *location = ngx_http_get_module_loc_conf(r, ngx_http_countersign_module);
    countersign_request_t *checked;

    if (location->listener == CHECK_OFF) {
        return NGX_DECLINED;
    }
    if (conf->tier == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }
    checked = ngx_http_get_module_ctx(r, ngx_http_countersign_module);
    if (checked == NULL) {
        checked = ngx_pcalloc(r->pool, sizeof(countersign_request_t));
        if (checked == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        ngx_http_set_ctx(r, checked, ngx_http_countersign_module);
        if (check(r, conf->tier, location->listener, checked) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    switch (checked->status) {
    case 0:
        return NGX_AGAIN;
    case NGX_HTTP_OK:
        return NGX_OK;
    default:
        return countersign_refuse(r, checked);
    }
}

// Runs after the access phase. With `satisfy any`, another module may have allowed a request that
// this one has refused.
static ngx_int_t
allowed_handler(ngx_http_request_t *r)
{
    countersign_request_t *checked = ngx_http_get_module_ctx(r, ngx_http_countersign_module);

    if (checked != NULL) {
        countersign_withdraw(checked);
    }
    return NGX_DECLINED;
}

// ---- the configuration ----

static void *
create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(countersign_main_conf_t));
}

static void *
create_location_conf(ngx_conf_t *cf)
{
    location_conf_t *conf = ngx_pcalloc(cf->pool, sizeof(location_conf_t));

    if (conf != NULL) {
        conf->listener = NGX_CONF_UNSET;
    }
    return conf;
}

static char *
set_file(ngx_conf_t *cf, ngx_command_t *command, void *data)
{
    countersign_main_conf_t *conf = data;
    ngx_str_t *arguments = cf->args->elts;

    if (conf->file.data != NULL) {
        return "is duplicate";
    }
    conf->file = arguments[1];
    return ngx_conf_full_name(cf->cycle, &conf->file, 1) == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static char *
set_check(ngx_conf_t *cf, ngx_command_t *command, void *data)
{
    location_conf_t *conf = data;
    ngx_str_t *arguments = cf->args->elts;

    if (conf->name.data != NULL) {
        return "is duplicate";
    }
    conf->name = arguments[1];
    return NGX_CONF_OK;
}

static void
free_config(void *data)
{
    countersign_main_conf_t *conf = data;

    cs_config_free(conf->config);
    conf->config = NULL;
}

// Whether this module was built for the library that nginx has loaded. nginx keeps the one of its
// start, also when a reload loads another module.
static ngx_int_t
has_same_interface(ngx_conf_t *cf)
{
    uint32_t loaded = cs_interface_version();

    if (loaded == CS_INTERFACE_VERSION) {
        return 1;
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
        "countersign: the module is for version %uD of the interface of libcountersign.so, but "
        "nginx has loaded version %uD: restart nginx if both were replaced, or build the module "
        "again", (uint32_t) CS_INTERFACE_VERSION, loaded);
    return 0;
}

// Reads the configuration file, unless that is done.
static ngx_int_t
load_config(ngx_conf_t *cf, countersign_main_conf_t *conf)
{
    char error[4096];
    ngx_pool_cleanup_t *cleanup;

    if (conf->config != NULL) {
        return NGX_OK;
    }
    if (!has_same_interface(cf)) {
        return NGX_ERROR;
    }
    if (conf->file.data == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
            "countersign_check needs a configuration: name its file by countersign in http");
        return NGX_ERROR;
    }
    cleanup = ngx_pool_cleanup_add(cf->pool, 0);
    if (cleanup == NULL) {
        return NGX_ERROR;
    }
    conf->config = cs_config_load((char *) conf->file.data, error, sizeof(error));
    if (conf->config == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "countersign: %s", error);
        return NGX_ERROR;
    }
    cleanup->handler = free_config;
    cleanup->data = conf;
    return NGX_OK;
}

// Finds the listener by whose rules a location is checked.
static char *
find_listener(ngx_conf_t *cf, location_conf_t *conf)
{
    char *name;
    countersign_main_conf_t *main_conf;

    if (ngx_strcmp(conf->name.data, "off") == 0) {
        conf->listener = CHECK_OFF;
        return NGX_CONF_OK;
    }
    main_conf = ngx_http_conf_get_module_main_conf(cf, ngx_http_countersign_module);
    if (load_config(cf, main_conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    name = ngx_strcmp(conf->name.data, "on") == 0 ? "main" : (char *) conf->name.data;
    conf->listener = cs_config_listener(main_conf->config, name);
    if (conf->listener < 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
            "countersign_check %V: %V has no section [listener_%V]", &conf->name,
            &main_conf->file, &conf->name);
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

static char *
merge_location_conf(ngx_conf_t *cf, void *parent, void *child)
{
    location_conf_t *outer = parent, *inner = child;

    if (outer->name.data != NULL && outer->listener == NGX_CONF_UNSET
        && find_listener(cf, outer) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }
    if (inner->name.data != NULL) {
        return find_listener(cf, inner);
    }
    ngx_conf_merge_value(inner->listener, outer->listener, CHECK_OFF);
    return NGX_CONF_OK;
}

static ngx_int_t
add_handler(ngx_conf_t *cf, ngx_http_phases phase, ngx_http_handler_pt function)
{
    ngx_http_handler_pt *handler;
    ngx_http_core_main_conf_t *core;

    core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handler = ngx_array_push(&core->phases[phase].handlers);
    if (handler == NULL) {
        return NGX_ERROR;
    }
    *handler = function;
    return NGX_OK;
}

static ngx_int_t
add_handlers(ngx_conf_t *cf)
{
    if (add_handler(cf, NGX_HTTP_ACCESS_PHASE, access_handler) != NGX_OK) {
        return NGX_ERROR;
    }
    return add_handler(cf, NGX_HTTP_PRECONTENT_PHASE, allowed_handler);
}

// ---- the worker ----

static countersign_main_conf_t *
conf_of_cycle(ngx_cycle_t *cycle)
{
    // NULL without an http block.
    return ngx_http_cycle_get_module_main_conf(cycle, ngx_http_countersign_module);
}

// Starts the tier of a worker. Its threads receive no signals, because those of nginx have to
// interrupt the worker's own thread.
static ngx_int_t
start_worker(ngx_cycle_t *cycle)
{
    char error[4096];
    sigset_t all, before;
    countersign_main_conf_t *conf = conf_of_cycle(cycle);

    if (conf == NULL || conf->config == NULL
        || (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }
    conf->keeps_claims = conf->keeps_claims || countersign_uses_claims(cycle);
    if (countersign_pending_init(cycle) != NGX_OK) {
        return NGX_ERROR;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    conf->tier = cs_tier_start(conf->config, error, sizeof(error));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    // It was freed.
    conf->config = NULL;
    if (conf->tier == NULL) {
        // The worker goes on, for what is not checked. A worker that ends here ends nginx.
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "countersign: %s", error);
    }
    return NGX_OK;
}

static void
stop_worker(ngx_cycle_t *cycle)
{
    countersign_main_conf_t *conf = conf_of_cycle(cycle);

    if (conf != NULL) {
        cs_tier_stop(conf->tier);
        conf->tier = NULL;
        countersign_pending_stop();
    }
}

static ngx_command_t commands[] = {
    { ngx_string("countersign"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_file,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },
    { ngx_string("countersign_claim"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2, countersign_set_claim,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },
    { ngx_string("countersign_check"),
      NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set_check,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    ngx_null_command
};

static ngx_http_module_t module_context = {
    countersign_add_variables, // before the configuration
    add_handlers,              // after it
    create_main_conf,
    NULL,
    NULL,
    NULL,
    create_location_conf,
    merge_location_conf,
};

ngx_module_t ngx_http_countersign_module = {
    NGX_MODULE_V1,
    &module_context,
    commands,
    NGX_HTTP_MODULE,
    NULL,
    NULL,
    start_worker,
    NULL,
    NULL,
    stop_worker,
    NULL,
    NGX_MODULE_V1_PADDING
};
