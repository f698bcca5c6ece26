/* Runs a program to which the kernel refuses some system calls:
 *
 *     refuse ENOSYS,clone3,memfd_noexec program argument...
 *
 * The first word is ENOSYS or EPERM. Status 77: the system takes no such filter. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#include "refuse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const refusal *refusal_called(const char *name) {
    const refusal *r = NULL;
    for (size_t i = 0; (r = refusal_of(i)) != NULL && strcmp(r->name, name) != 0; i++) {
    }
    return r;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fputs("usage: refuse ENOSYS|EPERM,call,... program argument...\n", stderr);
        return 2;
    }
    const char *word = strtok(argv[1], ",");
    const int error = word != NULL && strcmp(word, "EPERM") == 0 ? EPERM : ENOSYS;
    while ((word = strtok(NULL, ",")) != NULL) {
        const refusal *r = refusal_called(word);
        if (r == NULL || !refuse(r, r->error != 0 ? r->error : error)) {
            fprintf(stderr, "refuse: %s: %s\n", word, r == NULL ? "not known here" : "no filter");
            return 77;
        }
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
