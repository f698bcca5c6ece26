/*
 * An HTTP server of 127.0.0.1 that behaves as badly as it is asked to. It prints its port, and ends
 * when its standard input does. What it does follows from the path:
 *
 *     /bytes/N/...   N bytes, each of them 'x'
 *     /busy/N/...    503 for the first N requests (of all such paths), then one byte
 *     /status/N/...  that status
 *     /early/...     closes after 10 of 1000 bytes
 *     /stall/...     sends 10 of 1000 bytes, and then no more
 *     /mute/...      says nothing at all
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 64 };

static atomic_long busy;

static bool send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return false;
        }
        data += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

static bool send_head(int fd, long status, long length) {
    char head[256];
    const int size = snprintf(head, sizeof head,
                              "HTTP/1.1 %ld Status\r\nContent-Length: %ld\r\n"
                              "Connection: close\r\n\r\n",
                              status, length);
    return send_all(fd, head, (size_t)size);
}

static bool send_bytes(int fd, long length) {
    char block[4096];
    memset(block, 'x', sizeof block);
    for (size_t left = (size_t)length; left > 0;) {
        const size_t size = left < sizeof block ? left : sizeof block;
        if (!send_all(fd, block, size)) {
            return false;
        }
        left -= size;
    }
    return true;
}

static void wait_until_closed(int fd) {
    char byte;
    while (recv(fd, &byte, 1, 0) > 0) {
    }
}

static void answer(int fd, const char *path) {
    char kind[16] = "";
    long number = 0;
    (void)sscanf(path, "/%15[a-z]/%ld", kind, &number);
    if (strcmp(kind, "bytes") == 0) {
        (void)(send_head(fd, 200, number) && send_bytes(fd, number));
    } else if (strcmp(kind, "busy") == 0) {
        const bool is_busy = atomic_fetch_add(&busy, 1) < number;
        (void)(send_head(fd, is_busy ? 503 : 200, 1) && send_bytes(fd, 1));
    } else if (strcmp(kind, "early") == 0) {
        (void)(send_head(fd, 200, 1000) && send_bytes(fd, 10));
    } else if (strcmp(kind, "stall") == 0) {
        (void)(send_head(fd, 200, 1000) && send_bytes(fd, 10));
        wait_until_closed(fd);
    } else if (strcmp(kind, "mute") == 0) {
        wait_until_closed(fd);
    } else {
        (void)send_head(fd, number >= 100 ? number : 404, 0);
    }
}

static int serve(cf_task *task, void *arg) {
    const int fd = *(const int *)arg;
    char request[2048];
    size_t size = 0;
    request[0] = '\0';
    while (strstr(request, "\r\n\r\n") == NULL && size < sizeof request - 1) {
        const ssize_t received = recv(fd, request + size, sizeof request - 1 - size, 0);
        if (received <= 0) {
            break;
        }
        size += (size_t)received;
        request[size] = '\0';
    }
    if (strncmp(request, "GET ", 4) == 0) {
        answer(fd, request + 4);
    }
    (void)close(fd);
    (void)task;
    return 0;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr *name = (struct sockaddr *)&address;
    socklen_t size = sizeof address;
    const cf_pool_options options = {.max_workers = CONNECTIONS};
    cf_executor *pool = cf_thread_pool_new(&options, NULL);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (pool == NULL || listener < 0 || bind(listener, name, size) != 0 ||
        listen(listener, CONNECTIONS) != 0 || getsockname(listener, name, &size) != 0) {
        perror("server");
        return EXIT_FAILURE;
    }
    printf("%u\n", (unsigned)ntohs(address.sin_port));
    (void)fflush(stdout);
    struct pollfd events[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = listener, .events = POLLIN}};
    char byte;
    while (events[0].revents == 0 || read(STDIN_FILENO, &byte, 1) > 0) {
        events[0].revents = events[1].revents = 0;
        const int ready = poll(events, 2, -1);
        const int fd = ready > 0 && events[1].revents != 0 ? accept(listener, NULL, NULL) : -1;
        if (fd >= 0) {
            cf_future_release(cf_executor_submit(pool, serve, CF_VALUE(int, fd)));
        }
    }
    _exit(EXIT_SUCCESS); /* tasks may wait for a client */
}
