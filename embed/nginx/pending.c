// Decisions that wait. A thread of the tier puts them into a list and writes to an eventfd, which
// wakes the event loop of the worker. That thread never touches a request, because the request may
// have ended.

#include "countersign_module.h"

#include <pthread.h>
#include <sys/eventfd.h>

struct countersign_pending_s {
    countersign_pending_t *next;
    // NULL once the request has ended. Only the worker's thread uses it.
    ngx_http_request_t *request;
    // What sets it to NULL.
    ngx_pool_cleanup_t *cleanup;
    countersign_request_t *checked;
    // What was decided, copied by the thread of the tier.
    cs_decision decision;
    u_char *memory;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static countersign_pending_t *decided;
static int wake_fd = -1;
// Number of decisions that wait. A timer keeps a worker that stops from ending before them.
static ngx_uint_t waiting;
static ngx_event_t keep_running;
static ngx_connection_t *wake_connection;

static void resume_all(ngx_event_t *event);

// Time after which the timer is set again, in milliseconds.
#define KEEP_INTERVAL 60000

static void
keep_waiting(ngx_event_t *event)
{
    if (waiting) {
        ngx_add_timer(event, KEEP_INTERVAL);
    }
}

ngx_int_t
countersign_pending_init(ngx_cycle_t *cycle)
{
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd == -1) {
        return NGX_ERROR;
    }
    wake_connection = ngx_get_connection(wake_fd, cycle->log);
    if (wake_connection == NULL) {
        return NGX_ERROR;
    }
    keep_running.handler = keep_waiting;
    keep_running.log = cycle->log;
    keep_running.data = &keep_running;
    wake_connection->log = cycle->log;
    wake_connection->read->handler = resume_all;
    wake_connection->read->log = cycle->log;
    wake_connection->write->log = cycle->log;
    return ngx_add_event(wake_connection->read, NGX_READ_EVENT, 0);
}

void
countersign_pending_stop(void)
{
    if (wake_connection != NULL) {
        ngx_close_connection(wake_connection);
        wake_connection = NULL;
    }
}

// The request has ended: its decision, when it arrives, is about nothing.
static void
forget_request(void *data)
{
    countersign_pending_t *pending = data;

    pending->request = NULL;
}

countersign_pending_t *
countersign_pending_create(ngx_http_request_t *r, countersign_request_t *checked)
{
    ngx_pool_cleanup_t *cleanup;
    countersign_pending_t *pending;

    cleanup = ngx_pool_cleanup_add(r->pool, 0);
    if (cleanup == NULL) {
        return NULL;
    }
    // Not in the pool, because it may outlive the request.
    pending = ngx_calloc(sizeof(countersign_pending_t), r->connection->log);
    if (pending == NULL) {
        return NULL;
    }
    if (waiting++ == 0) {
        ngx_add_timer(&keep_running, KEEP_INTERVAL);
    }
    pending->request = r;
    pending->cleanup = cleanup;
    pending->checked = checked;
    cleanup->handler = forget_request;
    cleanup->data = pending;
    return pending;
}

static void *
copy(u_char **memory, const void *data, size_t size)
{
    void *start = *memory;

    // A null pointer is not a source, even of no bytes.
    if (size) {
        *memory = ngx_cpymem(*memory, data, size);
    }
    return start;
}

static cs_text
copy_text(u_char **memory, cs_text text)
{
    return (cs_text) { copy(memory, text.data, text.length), text.length };
}

// The texts of a decision that are kept.
#define TEXTS 7

static void
texts_of(cs_decision *decision, cs_text *texts[TEXTS])
{
    texts[0] = &decision->subject;
    texts[1] = &decision->user;
    texts[2] = &decision->issuer;
    texts[3] = &decision->client_types;
    texts[4] = &decision->environment;
    texts[5] = &decision->tenant;
    texts[6] = &decision->claims;
}

// Copies a decision and its texts into one block of memory, which starts with its header lines.
static ngx_int_t
copy_decision(countersign_pending_t *pending, const cs_decision *decision)
{
    size_t size;
    u_char *end;
    cs_line *lines;
    cs_text *texts[TEXTS];

    pending->decision = *decision;
    pending->decision.removed = NULL;
    pending->decision.removed_count = 0;
    pending->decision.body = (cs_text) { NULL, 0 };
    texts_of(&pending->decision, texts);

    size = decision->line_count * sizeof(cs_line);
    for (size_t i = 0; i < decision->line_count; i++) {
        size += decision->lines[i].name.length + decision->lines[i].value.length;
    }
    for (size_t i = 0; i < TEXTS; i++) {
        size += texts[i]->length;
    }
    // malloc, because nginx logs what its own functions allocate to a file of the event loop.
    pending->memory = malloc(size ? size : 1);
    if (pending->memory == NULL) {
        return NGX_ERROR;
    }

    end = pending->memory;
    lines = copy(&end, decision->lines, decision->line_count * sizeof(cs_line));
    for (size_t i = 0; i < decision->line_count; i++) {
        lines[i].name = copy_text(&end, lines[i].name);
        lines[i].value = copy_text(&end, lines[i].value);
    }
    pending->decision.lines = lines;
    for (size_t i = 0; i < TEXTS; i++) {
        *texts[i] = copy_text(&end, *texts[i]);
    }
    return NGX_OK;
}

void
countersign_decided(void *context, const cs_decision *decision)
{
    uint64_t one = 1;
    countersign_pending_t *pending = context;

    if (copy_decision(pending, decision) != NGX_OK) {
        pending->decision = (cs_decision) { .status = NGX_HTTP_INTERNAL_SERVER_ERROR };
    }

    pthread_mutex_lock(&mutex);
    pending->next = decided;
    decided = pending;
    pthread_mutex_unlock(&mutex);

    // It fails only if the counter is about to overflow, and then the worker is awake.
    if (write(wake_fd, &one, sizeof(one)) != sizeof(one)) {
        return;
    }
}

// Continues a request with its decision.
static void
resume(countersign_pending_t *pending)
{
    ngx_http_request_t *r = pending->request;
    ngx_connection_t *connection = r->connection;

    if (countersign_keep(r, pending->checked, &pending->decision) != NGX_OK) {
        pending->checked->status = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ngx_http_set_log_request(connection->log, r);
    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(connection);
}

// The event of the eventfd.
static void
resume_all(ngx_event_t *event)
{
    uint64_t count;
    ngx_connection_t *connection = event->data;
    countersign_pending_t *pending, *next;

    if (read(connection->fd, &count, sizeof(count)) == -1) {
        event->ready = 0;
    }

    pthread_mutex_lock(&mutex);
    pending = decided;
    decided = NULL;
    pthread_mutex_unlock(&mutex);

    for ( /* void */ ; pending != NULL; pending = next) {
        next = pending->next;
        if (pending->request != NULL) {
            // The request may outlive this memory, and end while it is resumed.
            pending->cleanup->handler = NULL;
            resume(pending);
        }
        free(pending->memory);
        free(pending);
        if (--waiting == 0 && keep_running.timer_set) {
            ngx_del_timer(&keep_running);
        }
    }
}
