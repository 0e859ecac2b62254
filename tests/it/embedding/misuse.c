// What a caller of the library can do wrong, and what it may do on many threads.
#include <assert.h>
#include <countersign.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static cs_tier *tier;
static cs_line line;

static cs_text text(const char *data) {
    return (cs_text){data, strlen(data)};
}

static cs_request request(void) {
    cs_request request = {
        .method = text("GET"),
        .target = text("/"),
        .host = text("h"),
        .peer = text("127.0.0.1"),
        .lines = &line,
        .line_count = 1,
        .wants_claims = true,
    };
    return request;
}

static int status_of(size_t listener, cs_request request) {
    cs_decision decision;
    assert(cs_check(tier, listener, &request, &decision, NULL, NULL) == CS_DECIDED);
    assert(decision.is_allowed == (decision.status == 200));
    return decision.status;
}

static void *check_often(void *unused) {
    for (int i = 0; i < 2000; i++)
        assert(status_of(0, request()) == 200);
    return unused;
}

int main(int count, char **arguments) {
    char error[16], claim[8];
    cs_decision decision;
    cs_request bad = request();

    assert(count == 3);
    assert(cs_config_load(NULL, NULL, 0) == NULL);
    assert(cs_config_load("/missing/a/file.cfg", error, sizeof error) == NULL);
    assert(strlen(error) == sizeof error - 1);
    assert(cs_tier_start(NULL, error, sizeof error) == NULL);
    cs_config_free(NULL);
    cs_tier_stop(NULL);
    cs_tier_reload(NULL);
    assert(!cs_tier_is_ready(NULL));
    cs_config_free(cs_config_load(arguments[1], error, sizeof error));

    cs_config *config = cs_config_load(arguments[1], error, sizeof error);
    assert(config && cs_config_listener(config, "main") == 0);
    assert(cs_config_listener(config, "x") == -1 && cs_config_listener(config, NULL) == -1);
    tier = cs_tier_start(config, error, sizeof error);
    assert(tier);
    line = (cs_line){text("Authorization"), text(arguments[2])};

    // Requests that are not any.
    assert(cs_check(tier, 0, NULL, &decision, NULL, NULL) == CS_DECIDED);
    assert(decision.status == 500 && !decision.is_allowed);
    assert(cs_check(NULL, 0, &bad, &decision, NULL, NULL) == CS_DECIDED);
    assert(decision.status == 500 && !decision.is_allowed);
    assert(status_of(99, request()) == 500);
    bad.target = (cs_text){"/\xff", 2};
    assert(status_of(0, bad) == 400);
    bad = request();
    bad.peer = text("nowhere");
    assert(status_of(0, bad) == 400);
    bad = request();
    bad.lines = NULL;
    bad.line_count = 0;
    assert(status_of(0, bad) == 401);

    // Claims.
    bad = request();
    assert(cs_check(tier, 0, &bad, &decision, NULL, NULL) == CS_DECIDED);
    assert(cs_claim(decision.claims, text("sub"), claim, sizeof claim) == 3);
    assert(memcmp(claim, "bob", 3) == 0);
    assert(cs_claim(decision.claims, text("exp"), claim, sizeof claim) == 10);
    assert(cs_claim(decision.claims, text("missing"), claim, sizeof claim) == -1);
    assert(cs_claim((cs_text){NULL, 0}, text("sub"), NULL, 0) == -1);

    // Many threads.
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert(pthread_create(&threads[i], NULL, check_often, NULL) == 0);
    for (int i = 0; i < 8; i++)
        assert(pthread_join(threads[i], NULL) == 0);

    // A child has no threads of the tier.
    pid_t child = fork();
    if (child == 0)
        _exit(status_of(0, request()) == 503 && !cs_tier_is_ready(tier) ? 0 : 1);
    int status;
    assert(waitpid(child, &status, 0) == child && status == 0);
    assert(status_of(0, request()) == 200);
    cs_tier_stop(tier);
    puts("done");
    return 0;
}
