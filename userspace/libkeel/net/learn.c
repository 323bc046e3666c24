// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a switch knows: behind which port each Ethernet address was last seen (IEEE 802.1D, 7.8).
 *
 * A table of fixed size, so that guests which make up addresses only push each other's out: an
 * address that is not in it is flooded, as on any switch. Pure: no sockets, no locks.
 */
#include <stdlib.h>
#include <string.h>

#include "learn.h"

#define BUCKETS		1024u
#define WAYS		4u
#define AGE_MAX		300		/* seconds */

struct entry {
	uint8_t address[6];
	uint16_t port;			/* plus one; 0: free */
	int64_t seen;			/* seconds */
};

struct keel_learn {
	struct entry entry[BUCKETS][WAYS];
};

static struct entry *bucket(struct keel_learn *learn, const uint8_t *address)
{
	uint32_t hash = 2166136261u;

	for (int i = 0; i < 6; i++)
		hash = (hash ^ address[i]) * 16777619u;
	return learn->entry[hash % BUCKETS];
}

static struct entry *find(struct keel_learn *learn, const uint8_t *address, int64_t now)
{
	struct entry *e = bucket(learn, address);

	for (unsigned int i = 0; i < WAYS; i++)
		if (e[i].port && !memcmp(e[i].address, address, 6) && now - e[i].seen <= AGE_MAX)
			return &e[i];
	return NULL;
}

struct keel_learn *keel_learn_create(void)
{
	return calloc(1, sizeof(struct keel_learn));
}

void keel_learn_destroy(struct keel_learn *learn)
{
	free(learn);
}

static void source_note(struct keel_learn *learn, unsigned int port, const uint8_t *address,
			int64_t now)
{
	struct entry *e = find(learn, address, now), *all = bucket(learn, address);

	for (unsigned int i = 0; i < WAYS && !e; i++)
		if (!all[i].port)
			e = &all[i];
	if (!e) {
		e = &all[0];
		for (unsigned int i = 1; i < WAYS; i++)
			if (all[i].seen < e->seen)
				e = &all[i];
	}
	memcpy(e->address, address, 6);
	e->port = port + 1;
	e->seen = now;
}

int keel_learn_frame(struct keel_learn *learn, unsigned int port, const uint8_t *frame, size_t size,
		     int64_t now)
{
	const uint8_t *to = frame, *from = frame + 6;
	struct entry *e;

	if (size < KEEL_LEARN_HEADER)
		return KEEL_LEARN_DROP;
	/* a group address is nobody's own */
	if (!(from[0] & 1))
		source_note(learn, port, from, now);
	if (to[0] & 1)
		return KEEL_LEARN_FLOOD;
	e = find(learn, to, now);
	if (!e)
		return KEEL_LEARN_FLOOD;
	return e->port - 1 == (int)port ? KEEL_LEARN_DROP : e->port - 1;
}

void keel_learn_forget(struct keel_learn *learn, unsigned int port)
{
	for (unsigned int b = 0; b < BUCKETS; b++)
		for (unsigned int i = 0; i < WAYS; i++)
			if (learn->entry[b][i].port == port + 1)
				learn->entry[b][i].port = 0;
}
