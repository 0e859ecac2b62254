// Checks one request with the rules of a configuration file, and prints the decision.
//
// cc check.c -lcountersign -o check && ./check auth.cfg 'Bearer eyJ...'
#include <countersign.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

// Prints a decision. A pending one arrives on another thread, so it is printed there.
static void print(const cs_decision *decision) {
    printf("%s %d\n", decision->is_allowed ? "allowed" : "refused", decision->status);
    for (size_t i = 0; i < decision->line_count; i++) {
        cs_line line = decision->lines[i];
        printf("  set %.*s: %.*s\n", (int)line.name.length, line.name.data,
               (int)line.value.length, line.value.data);
    }
    for (size_t i = 0; i < decision->removed_count; i++)
        printf("  remove %.*s\n", (int)decision->removed[i].length, decision->removed[i].data);
}

static void decided(void *done, const cs_decision *decision) {
    print(decision);
    sem_post(done);
}

static cs_text text(const char *data) {
    return (cs_text){data, strlen(data)};
}

int main(int count, char **arguments) {
    char error[4096];
    if (count != 3) {
        fprintf(stderr, "usage: check CONFIGURATION AUTHORIZATION\n");
        return 2;
    }
    cs_config *config = cs_config_load(arguments[1], error, sizeof error);
    cs_tier *tier = config ? cs_tier_start(config, error, sizeof error) : NULL;
    if (!tier) {
        fprintf(stderr, "%s\n", error);
        return 2;
    }
    cs_line lines[] = {{text("Authorization"), text(arguments[2])}};
    cs_request request = {
        .method = text("GET"), .target = text("/"), .host = text("localhost"),
        .peer = text("127.0.0.1"), .lines = lines, .line_count = 1,
    };
    cs_decision decision;
    sem_t done;
    sem_init(&done, 0, 0);
    // 0 is the main listener; cs_config_listener has the index of others.
    if (cs_check(tier, 0, &request, &decision, decided, &done) == CS_DECIDED)
        print(&decision);
    else
        sem_wait(&done);
    cs_tier_stop(tier);
    return 0;
}
