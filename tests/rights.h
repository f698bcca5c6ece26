/* Descriptors in messages, as many as wanted and wherever: for tests that play one side badly. */
#ifndef CF_TEST_RIGHTS_H
#define CF_TEST_RIGHTS_H

#include <string.h>
#include <sys/socket.h>

enum { RIGHTS_MOST = 16 };

/* One byte and these descriptors. What sendmsg says. */
static inline ssize_t send_rights(int channel, unsigned char byte, const int *fds, size_t count,
                                  int flags) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(RIGHTS_MOST * sizeof(int))];
    } control;
    struct iovec part = {&byte, 1};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0 && count <= RIGHTS_MOST) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof *fds);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(count * sizeof *fds);
        memcpy(CMSG_DATA(&control.header), fds, count * sizeof *fds);
    }
    return sendmsg(channel, &message, flags);
}

#endif
