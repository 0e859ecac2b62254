// The variables of the caller and of claims.

#include "countersign_module.h"

// Shows the text at the offset `data` of a countersign_identity_t.
static ngx_int_t
show_text(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data)
{
    ngx_str_t *text;
    countersign_request_t *checked;

    checked = ngx_http_get_module_ctx(r->main, ngx_http_countersign_module);
    value->not_found = 1;
    if (checked == NULL || checked->status != NGX_HTTP_OK) {
        return NGX_OK;
    }
    text = (ngx_str_t *) ((u_char *) &checked->identity + data);
    if (text->len == 0) {
        return NGX_OK;
    }
    value->valid = 1;
    value->no_cacheable = 1;
    value->not_found = 0;
    value->len = text->len;
    value->data = text->data;
    return NGX_OK;
}

static const ngx_str_t claim_prefix = ngx_string("countersign_claim_");

static ngx_int_t
show_claim(ngx_http_request_t *r, ngx_http_variable_value_t *value, cs_text name)
{
    ptrdiff_t length;
    cs_text claims;
    countersign_request_t *checked;

    checked = ngx_http_get_module_ctx(r->main, ngx_http_countersign_module);
    value->not_found = 1;
    if (checked == NULL || checked->identity.claims.len == 0) {
        return NGX_OK;
    }
    claims = (cs_text) {
        (char *) checked->identity.claims.data, checked->identity.claims.len
    };
    length = cs_claim(claims, name, NULL, 0);
    if (length <= 0) {
        return NGX_OK;
    }
    value->data = ngx_pnalloc(r->pool, length);
    if (value->data == NULL) {
        return NGX_ERROR;
    }
    cs_claim(claims, name, (char *) value->data, length);
    value->len = length;
    value->valid = 1;
    value->no_cacheable = 1;
    value->not_found = 0;
    return NGX_OK;
}

// Shows the claim that the name of the variable ends with, which is `data`.
static ngx_int_t
show_claim_of_variable(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data)
{
    size_t prefix = claim_prefix.len;
    ngx_str_t *variable = (ngx_str_t *) data;
    cs_text name = { (char *) variable->data + prefix, variable->len - prefix };

    return show_claim(r, value, name);
}

// Shows the claim with the name `data`.
static ngx_int_t
show_named_claim(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data)
{
    ngx_str_t *claim = (ngx_str_t *) data;
    cs_text name = { (char *) claim->data, claim->len };

    return show_claim(r, value, name);
}

#define TEXT(variable, member)                                                                     \
    { ngx_string("countersign_" variable), NULL, show_text,                                        \
      offsetof(countersign_identity_t, member), NGX_HTTP_VAR_NOCACHEABLE, 0 }

static ngx_http_variable_t variables[] = {
    TEXT("subject", subject),
    TEXT("user", user),
    TEXT("issuer", issuer),
    TEXT("client_types", client_types),
    TEXT("environment", environment),
    TEXT("tenant", tenant),
    { ngx_string("countersign_claim_"), NULL, show_claim_of_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_PREFIX, 0 },
    ngx_http_null_variable
};

ngx_int_t
countersign_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t *variable, *added;

    for (variable = variables; variable->name.len > 0; variable++) {
        added = ngx_http_add_variable(cf, &variable->name, variable->flags);
        if (added == NULL) {
            return NGX_ERROR;
        }
        added->get_handler = variable->get_handler;
        added->data = variable->data;
    }
    return NGX_OK;
}

char *
countersign_set_claim(ngx_conf_t *cf, ngx_command_t *command, void *data)
{
    ngx_str_t *arguments = cf->args->elts, *claim;
    ngx_str_t name = arguments[1];
    ngx_http_variable_t *variable;
    countersign_main_conf_t *conf = data;

    if (name.len < 2 || name.data[0] != '$') {
        return "needs the name of a variable, such as $name";
    }
    name.data++;
    name.len--;
    claim = ngx_palloc(cf->pool, sizeof(ngx_str_t));
    variable = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (claim == NULL || variable == NULL) {
        return NGX_CONF_ERROR;
    }
    *claim = arguments[2];
    variable->get_handler = show_named_claim;
    variable->data = (uintptr_t) claim;
    conf->keeps_claims = 1;
    return NGX_CONF_OK;
}

ngx_flag_t
countersign_uses_claims(ngx_cycle_t *cycle)
{
    ngx_http_variable_t *used;
    ngx_http_core_main_conf_t *core;

    core = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);
    used = core->variables.elts;
    for (ngx_uint_t i = 0; i < core->variables.nelts; i++) {
        if (used[i].name.len > claim_prefix.len
            && ngx_strncmp(used[i].name.data, claim_prefix.data, claim_prefix.len) == 0)
        {
            return 1;
        }
    }
    return 0;
}
