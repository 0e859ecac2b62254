// The request as the tier reads it, and what the decision does to it.

#include "countersign_module.h"

static cs_text
text_of(const ngx_str_t *string)
{
    return (cs_text) { (const char *) string->data, string->len };
}

// Writes the header lines of a request to `lines`, or to memory of its pool, and returns them.
static cs_line *
header_lines(ngx_http_request_t *r, cs_line *lines, size_t *count)
{
    size_t number = 0;
    ngx_list_part_t *part;
    ngx_table_elt_t *header;

    for (part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        number += part->nelts;
    }
    if (number > COUNTERSIGN_USUAL_LINES) {
        lines = ngx_palloc(r->pool, number * sizeof(cs_line));
        if (lines == NULL) {
            return NULL;
        }
    }
    *count = 0;
    for (part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        header = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            lines[*count].name = text_of(&header[i].key);
            lines[*count].value = text_of(&header[i].value);
            *count += 1;
        }
    }
    return lines;
}

// Returns the client's certificate, if nginx has verified it.
static cs_text
certificate(ngx_http_request_t *r)
{
#if (NGX_HTTP_SSL)
    ngx_str_t verified, escaped;
    ngx_connection_t *connection = r->connection;

    if (connection->ssl == NULL
        || ngx_ssl_get_client_verify(connection, r->pool, &verified) != NGX_OK
        || verified.len != sizeof("SUCCESS") - 1
        || ngx_memcmp(verified.data, "SUCCESS", verified.len) != 0
        || ngx_ssl_get_escaped_certificate(connection, r->pool, &escaped) != NGX_OK)
    {
        return (cs_text) { NULL, 0 };
    }
    return text_of(&escaped);
#else
    return (cs_text) { NULL, 0 };
#endif
}

ngx_int_t
countersign_describe(ngx_http_request_t *r, cs_request *request, cs_line *usual)
{
    ngx_connection_t *connection = r->connection;
    countersign_main_conf_t *conf;

    conf = ngx_http_get_module_main_conf(r, ngx_http_countersign_module);

    ngx_memzero(request, sizeof(cs_request));
    request->method = text_of(&r->method_name);
    request->target = text_of(&r->unparsed_uri);
    request->host = text_of(r->headers_in.host ? &r->headers_in.host->value
                                               : &r->headers_in.server);
#if (NGX_HTTP_SSL)
    request->is_tls = connection->ssl != NULL;
#endif
    request->wants_claims = conf->keeps_claims;
    // proxy_set_header makes them, from the variables.
    request->omits_changes = true;
    request->certificate = certificate(r);
    if (connection->sockaddr->sa_family != AF_UNIX) {
        request->peer = text_of(&connection->addr_text);
    }
    request->lines = header_lines(r, usual, &request->line_count);
    return request->lines == NULL ? NGX_ERROR : NGX_OK;
}

// Copies a text to the memory at `to`. Returns the memory behind it.
static u_char *
copy_text(ngx_str_t *kept, u_char *to, cs_text text)
{
    kept->data = to;
    kept->len = text.length;
    return text.length > 0 ? ngx_cpymem(to, text.data, text.length) : to;
}

// Keeps the texts of an allowed request that variables show.
static ngx_int_t
keep_identity(ngx_http_request_t *r, countersign_identity_t *identity, const cs_decision *decision)
{
    u_char *to = ngx_pnalloc(r->pool, decision->subject.length + decision->user.length
        + decision->issuer.length + decision->client_types.length + decision->environment.length
        + decision->tenant.length + decision->claims.length);

    if (to == NULL) {
        return NGX_ERROR;
    }
    to = copy_text(&identity->subject, to, decision->subject);
    to = copy_text(&identity->user, to, decision->user);
    to = copy_text(&identity->issuer, to, decision->issuer);
    to = copy_text(&identity->client_types, to, decision->client_types);
    to = copy_text(&identity->environment, to, decision->environment);
    to = copy_text(&identity->tenant, to, decision->tenant);
    copy_text(&identity->claims, to, decision->claims);
    return NGX_OK;
}

// Keeps a header line of the response to a refused request.
static ngx_int_t
keep_line(ngx_pool_t *pool, countersign_line_t *kept, const cs_line *line)
{
    u_char *to = ngx_pnalloc(pool, line->name.length + line->value.length);

    if (to == NULL) {
        return NGX_ERROR;
    }
    to = copy_text(&kept->name, to, line->name);
    copy_text(&kept->value, to, line->value);
    kept->added = NULL;
    return NGX_OK;
}

// Keeps the header lines of the response to a refused request.
static ngx_int_t
keep_lines(ngx_http_request_t *r, countersign_request_t *checked, const cs_decision *decision)
{
    countersign_line_t *line;

    checked->lines = ngx_array_create(r->pool, decision->line_count + 1, sizeof(*line));
    if (checked->lines == NULL) {
        return NGX_ERROR;
    }
    for (size_t i = 0; i < decision->line_count; i++) {
        line = ngx_array_push(checked->lines);
        if (line == NULL || keep_line(r->pool, line, &decision->lines[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

ngx_int_t
countersign_keep(ngx_http_request_t *r, countersign_request_t *checked,
    const cs_decision *decision)
{
    checked->status = decision->status;
    if (decision->is_allowed) {
        checked->status = NGX_HTTP_OK;
        return keep_identity(r, &checked->identity, decision);
    }
    if (checked->status < NGX_HTTP_BAD_REQUEST) {
        checked->status = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return keep_lines(r, checked, decision);
}

static ngx_int_t
is_named(const ngx_str_t *name, char *other)
{
    size_t length = ngx_strlen(other);

    return name->len == length && ngx_strncasecmp(name->data, (u_char *) other, length) == 0;
}

// Whether a header line of a refusal is about a body that nginx replaces.
static ngx_int_t
is_of_body(const ngx_str_t *name)
{
    return is_named(name, "content-type") || is_named(name, "content-length");
}

// Whether the response has this line: an internal redirect keeps those of the refusal before it.
static ngx_int_t
has_line(ngx_http_request_t *r, const countersign_line_t *line)
{
    ngx_list_part_t *part;
    ngx_table_elt_t *header;

    for (part = &r->headers_out.headers.part; part != NULL; part = part->next) {
        header = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (header[i].hash != 0 && header[i].key.len == line->name.len
                && header[i].value.len == line->value.len
                && ngx_strncasecmp(header[i].key.data, line->name.data, line->name.len) == 0
                && ngx_memcmp(header[i].value.data, line->value.data, line->value.len) == 0)
            {
                return 1;
            }
        }
    }
    return 0;
}

// Adds a header line to the response, unless it has it.
static ngx_int_t
add_line(ngx_http_request_t *r, countersign_line_t *line)
{
    if (has_line(r, line)) {
        return NGX_OK;
    }
    line->added = ngx_list_push(&r->headers_out.headers);
    if (line->added == NULL) {
        return NGX_ERROR;
    }
    ngx_memzero(line->added, sizeof(ngx_table_elt_t));
    line->added->hash = 1;
    line->added->key = line->name;
    line->added->value = line->value;
    if (is_named(&line->name, "www-authenticate")) {
        r->headers_out.www_authenticate = line->added;
    }
    return NGX_OK;
}

ngx_int_t
countersign_refuse(ngx_http_request_t *r, countersign_request_t *checked)
{
    ngx_uint_t count = checked->lines != NULL ? checked->lines->nelts : 0;
    countersign_line_t *lines = count ? checked->lines->elts : NULL;

    for (ngx_uint_t i = 0; i < count; i++) {
        if (is_named(&lines[i].name, "x-auth-error")) {
            // For the operator of the proxy.
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "countersign: %ui, %V",
                checked->status, &lines[i].value);
        } else if (!is_of_body(&lines[i].name) && add_line(r, &lines[i]) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return checked->status;
}

void
countersign_withdraw(countersign_request_t *checked)
{
    ngx_uint_t count = checked->lines != NULL ? checked->lines->nelts : 0;
    countersign_line_t *lines = count ? checked->lines->elts : NULL;

    for (ngx_uint_t i = 0; i < count; i++) {
        if (lines[i].added != NULL) {
            // nginx sends no line without a hash.
            lines[i].added->hash = 0;
        }
    }
}
