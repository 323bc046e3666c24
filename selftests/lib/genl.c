// SPDX-License-Identifier: GPL-2.0-only
/*
 * Raw generic netlink; see genl.h.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/keel.h>
#include "genl.h"
#include "vmtest.h"

static void socket_open(struct genl *nl)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	int size = 1 << 20;

	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (nl->fd < 0 || bind(nl->fd, (struct sockaddr *)&addr, sizeof(addr)))
		die("no netlink socket: %s", strerror(errno));
	setsockopt(nl->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

void genl_msg_init(struct genl *nl, struct genl_msg *m, uint8_t cmd, uint16_t flags)
{
	memset(m, 0, sizeof(*m));
	m->head.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	m->head.nlmsg_type = nl->family;
	m->head.nlmsg_flags = NLM_F_REQUEST | flags;
	m->head.nlmsg_seq = ++nl->seq;
	m->genl.cmd = cmd;
	m->genl.version = KEEL_GENL_VERSION;
}

void genl_msg_attr(struct genl_msg *m, uint16_t type, const void *data, size_t len)
{
	struct nlattr *a = (void *)((char *)m + NLMSG_ALIGN(m->head.nlmsg_len));

	if (NLMSG_ALIGN(m->head.nlmsg_len) + NLA_ALIGN(NLA_HDRLEN + len) > sizeof(*m))
		die("a message of more than %zu bytes", sizeof(*m));
	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + len;
	memcpy((char *)a + NLA_HDRLEN, data, len);
	m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len) + NLA_ALIGN(a->nla_len);
}

/* One message of the answer; true: it was the last. */
static bool take(struct genl_answer *a, const struct nlmsghdr *h)
{
	size_t len = NLMSG_ALIGN(h->nlmsg_len);

	if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE) {
		a->err = h->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? *(int *)NLMSG_DATA(h) : 0;
		return true;
	}
	a->data = realloc(a->data, a->size + len);
	if (!a->data)
		die("out of memory");
	memcpy(a->data + a->size, h, h->nlmsg_len);
	a->size += len;
	a->count++;
	return !(h->nlmsg_flags & NLM_F_MULTI);
}

struct genl_answer genl_ask(struct genl *nl, struct genl_msg *m)
{
	static char buf[65536] __attribute__((aligned(8)));
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct genl_answer a = { .err = 0 };
	struct nlmsghdr *h;
	ssize_t n;

	if (sendto(nl->fd, m, m->head.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		die("cannot send: %s", strerror(errno));
	for (;;) {
		n = recv(nl->fd, buf, sizeof(buf), MSG_TRUNC);
		if (n < 0 || (size_t)n > sizeof(buf))
			die("cannot receive: %zd, %s", n, strerror(errno));
		for (h = (void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
			if (h->nlmsg_seq == m->head.nlmsg_seq && take(&a, h))
				return a;
	}
}

struct genl_answer genl_dump(struct genl *nl, uint8_t cmd, uint16_t attr, uint64_t val)
{
	struct genl_answer a;
	struct genl_msg m;

	genl_msg_init(nl, &m, cmd, NLM_F_DUMP);
	if (attr)
		genl_msg_attr(&m, attr, &val, sizeof(val));
	a = genl_ask(nl, &m);
	if (a.err)
		die("dump %u: %s", cmd, strerror(-a.err));
	return a;
}

void genl_free(struct genl_answer *a)
{
	free(a->data);
	memset(a, 0, sizeof(*a));
}

const struct nlmsghdr *genl_message(const struct genl_answer *a, int n)
{
	size_t at = 0;

	while (at < a->size) {
		const struct nlmsghdr *h = (void *)(a->data + at);

		if (!n--)
			return h;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	return NULL;
}

static const struct nlattr *find(const char *p, const char *end, uint16_t type)
{
	while (p + NLA_HDRLEN <= end) {
		const struct nlattr *a = (void *)p;

		if (a->nla_len < NLA_HDRLEN || p + a->nla_len > end)
			die("an attribute of %u bytes with %zd left", a->nla_len, end - p);
		if ((a->nla_type & NLA_TYPE_MASK) == type)
			return a;
		p += NLA_ALIGN(a->nla_len);
	}
	return NULL;
}

const struct nlattr *genl_attr(const struct nlmsghdr *m, uint16_t type, const struct nlattr *after)
{
	const char *begin = after ? (char *)after + NLA_ALIGN(after->nla_len) :
			    (char *)m + NLMSG_LENGTH(GENL_HDRLEN);

	return find(begin, (char *)m + m->nlmsg_len, type);
}

const struct nlattr *genl_nested(const struct nlattr *nest, uint16_t type)
{
	return find((char *)nest + NLA_HDRLEN, (char *)nest + nest->nla_len, type);
}

const void *genl_data(const struct nlattr *attr)
{
	return (char *)attr + NLA_HDRLEN;
}

size_t genl_len(const struct nlattr *attr)
{
	return attr->nla_len - NLA_HDRLEN;
}

uint64_t genl_u64(const struct nlattr *attr)
{
	uint64_t val;

	if (!attr || genl_len(attr) != sizeof(val))
		die("no attribute of 64 bits");
	memcpy(&val, genl_data(attr), sizeof(val));
	return val;
}

uint32_t genl_u32(const struct nlattr *attr)
{
	uint32_t val;

	if (!attr || genl_len(attr) != sizeof(val))
		die("no attribute of 32 bits");
	memcpy(&val, genl_data(attr), sizeof(val));
	return val;
}

void genl_open(struct genl *nl)
{
	const struct nlattr *groups, *group;
	const struct nlmsghdr *h;
	struct genl_answer a;
	struct genl_msg m;

	memset(nl, 0, sizeof(*nl));
	socket_open(nl);
	nl->family = GENL_ID_CTRL;
	genl_msg_init(nl, &m, CTRL_CMD_GETFAMILY, 0);
	genl_msg_attr(&m, CTRL_ATTR_FAMILY_NAME, KEEL_GENL_NAME, sizeof(KEEL_GENL_NAME));
	a = genl_ask(nl, &m);
	h = genl_message(&a, 0);
	if (a.err || !h)
		die("no netlink family " KEEL_GENL_NAME ": %s", strerror(-a.err));
	nl->family = *(uint16_t *)genl_data(genl_attr(h, CTRL_ATTR_FAMILY_ID, NULL));
	nl->version = genl_u32(genl_attr(h, CTRL_ATTR_VERSION, NULL));
	groups = genl_attr(h, CTRL_ATTR_MCAST_GROUPS, NULL);
	group = groups ? genl_nested(groups, 1) : NULL;
	if (group && !strcmp(genl_data(genl_nested(group, CTRL_ATTR_MCAST_GRP_NAME)), KEEL_GENL_EVENTS))
		nl->group = genl_u32(genl_nested(group, CTRL_ATTR_MCAST_GRP_ID));
	genl_free(&a);
}

void genl_open_as(struct genl *nl, const struct genl *other)
{
	*nl = *other;
	socket_open(nl);
}

void genl_close(struct genl *nl)
{
	close(nl->fd);
	nl->fd = -1;
}
