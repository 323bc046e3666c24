/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Raw generic netlink for tests: requests built byte by byte, so that they can be wrong, and dumps read into memory.
 */
#ifndef SELFTESTS_GENL_H
#define SELFTESTS_GENL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>

struct genl {
	int fd;
	uint16_t family;
	uint32_t group;		/* "events" */
	uint32_t version;
	uint32_t seq;
};

/* A request: head and attributes; len is what is sent. */
struct genl_msg {
	struct nlmsghdr head;
	struct genlmsghdr genl;
	uint8_t attrs[4096];
};

/* All messages of an answer, one after the other. */
struct genl_answer {
	uint8_t *data;
	size_t size;
	int err;		/* of the kernel's last message: 0 or -errno */
	int count;		/* messages, the last (done or error) not counted */
};

/* Opens a socket and finds the family; ends the test when there is none. */
void genl_open(struct genl *nl);
/* Only the socket, with the family of another. */
void genl_open_as(struct genl *nl, const struct genl *other);
void genl_close(struct genl *nl);

void genl_msg_init(struct genl *nl, struct genl_msg *m, uint8_t cmd, uint16_t flags);
void genl_msg_attr(struct genl_msg *m, uint16_t type, const void *data, size_t len);
/* Sends it as it is, and reads until the last message. */
struct genl_answer genl_ask(struct genl *nl, struct genl_msg *m);
/* A dump with no attribute, or one of u64; ends the test when it fails. */
struct genl_answer genl_dump(struct genl *nl, uint8_t cmd, uint16_t attr, uint64_t val);
void genl_free(struct genl_answer *a);

/* The n-th message of an answer, from 0; NULL: none. */
const struct nlmsghdr *genl_message(const struct genl_answer *a, int n);
/* The first attribute of that type after @after (NULL: from the beginning) in a message, or in a nest. */
const struct nlattr *genl_attr(const struct nlmsghdr *m, uint16_t type, const struct nlattr *after);
const struct nlattr *genl_nested(const struct nlattr *nest, uint16_t type);
uint64_t genl_u64(const struct nlattr *attr);
uint32_t genl_u32(const struct nlattr *attr);
const void *genl_data(const struct nlattr *attr);
size_t genl_len(const struct nlattr *attr);

#endif
