/* SPDX-License-Identifier: GPL-2.0-only */
/* The options of keel run, as options.c and spec.c read them from the command line. */
#ifndef KEEL_OPTIONS_H
#define KEEL_OPTIONS_H

#include "libkeel.h"

#define DISKS_MAX	8
#define NETS_MAX	8
#define SHARES_MAX	8

struct disk_option {
	struct keel_blk_config blk;
	uint64_t scratch;		/* bytes of a disk that is made for this guest; 0: a file */
};

enum net_model { MODEL_VIRTIO, MODEL_PCNET };

struct net_option {
	struct keel_net_config net;
	enum net_model model;
	bool no_vhost;
};

struct share_option {
	struct keel_share_config share;
};

struct options {
	struct keel_vm_config vm;
	const char *kernel, *initrd, *append, *firmware;
	const char *name;		/* of the control socket; NULL: none */
	const char *cgroup, *pool;	/* to run in; or NULL */
	bool no_confine;
	bool stats, no_acpi, prealloc, rng, balloon, virtio_console;
	uint32_t vsock;			/* CID; 0: none */
	unsigned int disks, nets, shares;
	struct disk_option disk[DISKS_MAX];
	struct net_option net[NETS_MAX];
	struct share_option share[SHARES_MAX];
};

/** options_parse - 1 when there is nothing left to do; a negative errno with keel_error() */
int options_parse(int argc, char **argv, struct options *o);

/* The value of one option: a first word, then words and NAME=VALUE, with commas. Kept by the result. */
int disk_parse(char *text, struct disk_option *disk);
int net_parse(char *text, struct net_option *net);
int share_parse(char *text, struct share_option *share);

/** number_parse - a whole number in [@min, @max], decimal */
int number_parse(const char *option, const char *text, unsigned long min, unsigned long max,
		 unsigned long *out);

/** option_named - put the option in front of keel_error(), unless @ret is 0; returns @ret */
int option_named(const char *option, int ret);

/** is_name - may it be the name of a guest or a switch: letters, digits, _ and -, less than 24 */
bool is_name(const char *text);

#endif
