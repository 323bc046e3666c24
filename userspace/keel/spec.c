// SPDX-License-Identifier: GPL-2.0-only
/*
 * The values of --disk, --net and --share: "FIRST,flag,name=value,...".
 *
 * Each option has a table of the names that may follow, so that a mistake is told by the option and
 * the word at fault. The text is cut up in place.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

struct field {
	const char *name;
	bool flag;			/* stands alone, without a value */
	int (*set)(void *to, const char *value);
};

/* Returns the text behind the first word, cut off. */
static char *first_cut(char *text)
{
	char *comma = strchr(text, ',');

	if (comma)
		*comma++ = '\0';
	return comma;
}

static const struct field *field_find(const struct field *fields, const char *name)
{
	while (fields->name && strcmp(fields->name, name))
		fields++;
	return fields->name ? fields : NULL;
}

static int fields_parse(const char *option, const struct field *fields, char *text, void *to)
{
	while (text) {
		char *next = first_cut(text), *value = strchr(text, '=');
		const struct field *f;
		int ret;

		if (value)
			*value++ = '\0';
		f = field_find(fields, text);
		if (!f)
			return keel_fail(EINVAL, "%s: '%s' is not known: try keel run --help",
					 option, text);
		if (f->flag == !!value)
			return keel_fail(EINVAL, f->flag ? "%s: %s takes no value" :
					 "%s: %s wants a value", option, text);
		ret = f->set(to, value);
		if (ret)
			return ret;
		text = next;
	}
	return 0;
}

int number_parse(const char *option, const char *text, unsigned long min, unsigned long max,
		 unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || *out < min || *out > max)
		return keel_fail(EINVAL, "%s: '%s' is no number from %lu to %lu", option, text, min,
				 max);
	return 0;
}

int option_named(const char *option, int ret)
{
	char why[400];

	if (!ret)
		return 0;
	snprintf(why, sizeof(why), "%s", keel_error());
	return keel_fail(-ret, "%s: %s", option, why);
}

/* --disk ----------------------------------------------------------------------------------- */

static int disk_ro(void *to, const char *value)
{
	(void)value;
	((struct disk_option *)to)->blk.readonly = true;
	return 0;
}

static int disk_cache(void *to, const char *value)
{
	static const char *const names[] = {
		[KEEL_CACHE_WRITEBACK] = "writeback", [KEEL_CACHE_WRITETHROUGH] = "writethrough",
		[KEEL_CACHE_NONE] = "none",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(value, names[i])) {
			((struct disk_option *)to)->blk.cache = i;
			return 0;
		}
	}
	return keel_fail(EINVAL, "--disk: cache=%s: give writeback, writethrough or none", value);
}

static int disk_queues(void *to, const char *value)
{
	unsigned long n = 0;
	int ret = number_parse("--disk: queues", value, 1, 8, &n);

	((struct disk_option *)to)->blk.queues = n;
	return ret;
}

static int disk_serial(void *to, const char *value)
{
	struct disk_option *disk = to;

	if (strlen(value) >= sizeof(disk->blk.serial))
		return keel_fail(EINVAL, "--disk: serial=%s: give at most 20 characters", value);
	strcpy(disk->blk.serial, value);
	return 0;
}

static int disk_size(void *to, const char *value)
{
	struct disk_option *disk = to;
	int ret = option_named("--disk auto", keel_parse_size(value, &disk->scratch));

	if (!ret && (!disk->scratch || disk->scratch >> 44))
		ret = keel_fail(EINVAL, "--disk auto: size=%s is no size for a disk", value);
	return ret;
}

static const struct field disk_fields[] = {
	{ "ro", true, disk_ro }, { "cache", false, disk_cache }, { "queues", false, disk_queues },
	{ "serial", false, disk_serial }, { 0 },
};

static const struct field scratch_fields[] = {
	{ "size", false, disk_size }, { "queues", false, disk_queues },
	{ "serial", false, disk_serial }, { 0 },
};

int disk_parse(char *text, struct disk_option *disk)
{
	char *rest = first_cut(text);

	if (!*text)
		return keel_fail(EINVAL, "--disk: no file given");
	disk->blk.queues = 1;
	if (!strcmp(text, "auto")) {
		disk->scratch = KEEL_GIB;
		return fields_parse("--disk auto", scratch_fields, rest, disk);
	}
	disk->blk.path = text;
	return fields_parse("--disk", disk_fields, rest, disk);
}

/* --net ------------------------------------------------------------------------------------ */

static int net_mac(void *to, const char *value)
{
	struct net_option *net = to;
	unsigned int m[6];
	int used = 0;

	if (sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5],
		   &used) != 6 || value[used] || used != 17)
		return keel_fail(EINVAL, "--net: mac=%s: give six bytes, as in 52:54:00:12:34:56",
				 value);
	if (m[0] & 1)
		return keel_fail(EINVAL, "--net: mac=%s is a group address", value);
	for (int i = 0; i < 6; i++)
		net->net.mac[i] = m[i];
	return 0;
}

static int net_model(void *to, const char *value)
{
	struct net_option *net = to;

	if (!strcmp(value, "virtio"))
		net->model = MODEL_VIRTIO;
	else if (!strcmp(value, "pcnet"))
		net->model = MODEL_PCNET;
	else
		return keel_fail(EINVAL, "--net: model=%s: give virtio or pcnet", value);
	return 0;
}

static int forward_ports(const char *text, struct keel_forward *f)
{
	const char *colon = strchr(text, ':');
	unsigned long host = 0, guest = 0;
	char first[8];
	int ret;

	if (!colon || colon - text >= (long)sizeof(first))
		return keel_fail(EINVAL, "--net user: forward: '%s': give HOSTPORT:GUESTPORT", text);
	memcpy(first, text, colon - text);
	first[colon - text] = '\0';
	ret = number_parse("--net user: forward", first, 1, 65535, &host);
	if (!ret)
		ret = number_parse("--net user: forward", colon + 1, 1, 65535, &guest);
	f->host_port = host;
	f->guest_port = guest;
	return ret;
}

/* [tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT; without an address only this machine can connect. */
static int net_forward(void *to, const char *value)
{
	struct net_option *net = to;
	struct keel_forward *f = &net->net.forward[net->net.forwards];
	const char *dot = strchr(value, '.');

	if (net->net.forwards == KEEL_FORWARDS_MAX)
		return keel_fail(EINVAL, "--net user: at most %u forwards", KEEL_FORWARDS_MAX);
	f->host = htonl(INADDR_LOOPBACK);
	f->udp = !strncmp(value, "udp:", 4);
	if (f->udp || !strncmp(value, "tcp:", 4))
		value += 4;
	if (dot) {
		const char *colon = strchr(value, ':');
		char text[16] = "";
		struct in_addr address;

		if (colon && colon - value < (long)sizeof(text))
			memcpy(text, value, colon - value);
		if (!colon || !inet_aton(text, &address))
			return keel_fail(EINVAL, "--net user: forward: '%s' has no good address",
					 value);
		f->host = address.s_addr;
		value = colon + 1;
	}
	net->net.forwards++;
	return forward_ports(value, f);
}

static int net_restrict(void *to, const char *value)
{
	(void)value;
	((struct net_option *)to)->net.restricted = true;
	return 0;
}

static int net_ifname(void *to, const char *value)
{
	if (!*value || strlen(value) > 15)
		return keel_fail(EINVAL, "--net tap: '%s' is no name of an interface", value);
	((struct net_option *)to)->net.ifname = value;
	return 0;
}

static int net_bridge(void *to, const char *value)
{
	if (!*value || strlen(value) > 15)
		return keel_fail(EINVAL, "--net tap: '%s' is no name of a bridge", value);
	((struct net_option *)to)->net.bridge = value;
	return 0;
}

static int net_vhost(void *to, const char *value)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return keel_fail(EINVAL, "--net tap: vhost=%s: give on or off", value);
	((struct net_option *)to)->no_vhost = !strcmp(value, "off");
	return 0;
}

#define COMMON_FIELDS { "mac", false, net_mac }, { "model", false, net_model }

static const struct field user_fields[] = {
	COMMON_FIELDS, { "forward", false, net_forward }, { "restrict", true, net_restrict }, { 0 },
};
static const struct field tap_fields[] = {
	COMMON_FIELDS, { "ifname", false, net_ifname }, { "bridge", false, net_bridge },
	{ "vhost", false, net_vhost }, { 0 },
};
static const struct field switch_fields[] = { COMMON_FIELDS, { 0 } };

bool is_name(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	return n && n < 24 && !text[n];
}

int net_parse(char *text, struct net_option *net)
{
	char *rest = first_cut(text);

	if (!strcmp(text, "user")) {
		net->net.kind = KEEL_NET_USER;
		return fields_parse("--net user", user_fields, rest, net);
	}
	if (!strcmp(text, "tap")) {
		net->net.kind = KEEL_NET_TAP;
		return fields_parse("--net tap", tap_fields, rest, net);
	}
	if (strncmp(text, "switch=", 7))
		return keel_fail(EINVAL, "--net: '%s': give user, tap or switch=NAME", text);
	if (!is_name(text + 7))
		return keel_fail(EINVAL, "--net switch=%s: give up to 23 letters and digits",
				 text + 7);
	net->net.kind = KEEL_NET_SWITCH;
	net->net.switch_name = text + 7;
	return fields_parse("--net switch", switch_fields, rest, net);
}

/* --share ---------------------------------------------------------------------------------- */

static int share_ro(void *to, const char *value)
{
	(void)value;
	((struct share_option *)to)->share.readonly = true;
	return 0;
}

static int share_tag(void *to, const char *value)
{
	if (!*value || strlen(value) > 31)
		return keel_fail(EINVAL, "--share: tag=%s: give 1 to 31 characters", value);
	((struct share_option *)to)->share.tag = value;
	return 0;
}

static const struct field share_fields[] = {
	{ "ro", true, share_ro }, { "tag", false, share_tag }, { 0 },
};

int share_parse(char *text, struct share_option *share)
{
	char *rest = first_cut(text);

	share->share.path = text;
	share->share.tag = "share";
	share->share.server_fd = -1;
	return fields_parse("--share", share_fields, rest, share);
}
