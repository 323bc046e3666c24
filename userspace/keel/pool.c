// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits for guests by cgroup v2 (the kernel's Documentation/admin-guide/cgroup-v2.rst): a pool is the
 * group keel/NAME, and its guests share what it may use.
 *
 * A guest's process enters before it makes its threads and its memory, so that all of them count.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keel.h"
#include "options.h"
#include "pool.h"

#define ROOT		"/sys/fs/cgroup"
#define POOLS		"keel"
#define PERIOD_US	100000u

static int group_write(const char *group, const char *file, const char *text)
{
	char path[512];
	int fd, err;

	if (snprintf(path, sizeof(path), ROOT "/%s/%s", group, file) >= (int)sizeof(path))
		return keel_fail(ENAMETOOLONG, "cgroup '%s': too long a path", group);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return keel_fail(errno, "cgroup '%s': %s: %s", group, path, strerror(errno));
	err = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return err ? keel_fail(err, "cgroup '%s': cannot write '%s' to %s: %s", group, text, file,
			       strerror(err)) : 0;
}

int cgroup_enter(const char *path)
{
	/* a path as the user sees it in the file system, or as the kernel has it */
	if (!strncmp(path, ROOT "/", strlen(ROOT "/")))
		path += strlen(ROOT "/");
	while (*path == '/')
		path++;
	return group_write(path, "cgroup.procs", "0");
}

int pool_enter(const char *name)
{
	char group[64];

	snprintf(group, sizeof(group), POOLS "/%s", name);
	return cgroup_enter(group);
}

static int group_make(const char *group)
{
	char path[512];

	snprintf(path, sizeof(path), ROOT "/%s", group);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return keel_fail(errno, "cannot make %s: %s%s", path, strerror(errno),
				 errno == EACCES || errno == EROFS || errno == ENOENT ?
				 " (cgroup v2 must be mounted there, and be writable)" : "");
	return 0;
}

struct limits {
	unsigned long cpu;		/* percent of one CPU; 0: no limit */
	uint64_t memory;		/* bytes; 0: no limit */
};

static int pool_create(const char *name, const struct limits *limits)
{
	char group[64], text[48];
	int ret;

	snprintf(group, sizeof(group), POOLS "/%s", name);
	ret = group_make(POOLS);
	if (!ret)
		ret = group_write(".", "cgroup.subtree_control", "+cpu +memory");
	if (!ret)
		ret = group_write(POOLS, "cgroup.subtree_control", "+cpu +memory");
	if (!ret)
		ret = group_make(group);
	if (!ret && limits->cpu) {
		snprintf(text, sizeof(text), "%lu %u", limits->cpu * (PERIOD_US / 100), PERIOD_US);
		ret = group_write(group, "cpu.max", text);
	}
	if (!ret && limits->memory) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)limits->memory);
		ret = group_write(group, "memory.max", text);
	}
	return ret;
}

static int pool_remove(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), ROOT "/" POOLS "/%s", name);
	if (!rmdir(path))
		return 0;
	return keel_fail(errno, "cannot remove the pool '%s': %s", name, errno == EBUSY ?
			 "guests run in it" : strerror(errno));
}

static const char help[] =
	"usage: keel pool create NAME [--cpu PERCENT] [--memory SIZE]\n"
	"       keel pool remove NAME\n"
	"\n"
	"A pool is a control group: what its guests use together has its limits.\n"
	"keel run --pool NAME starts a guest in it.\n"
	"\n"
	"  --cpu PERCENT   of one CPU: 250 is two CPUs and a half\n"
	"  --memory SIZE   a number with K, M, G or T, MiB when bare\n";

static int pool_options(int argc, char **argv, struct limits *limits)
{
	static const struct option longs[] = {
		{ "cpu", required_argument, NULL, 'c' }, { "memory", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, ret = 0;

	opterr = 0;
	while (!ret && (opt = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (opt == 'c')
			ret = number_parse("--cpu", optarg, 1, 1000000, &limits->cpu);
		else if (opt == 'm')
			ret = keel_parse_size(optarg, &limits->memory);
		else
			ret = keel_fail(EINVAL, opt == ':' ? "option '%s' needs a value" :
					"unknown option '%s': try keel pool --help",
					argv[optind - 1]);
	}
	return ret;
}

int keel_pool(int argc, char **argv)
{
	struct limits limits = { 0 };
	const char *verb, *name;
	int ret;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return 0;
	}
	ret = pool_options(argc, argv, &limits);
	verb = argc - optind == 2 ? argv[optind] : "";
	name = *verb ? argv[optind + 1] : "";
	if (!ret && !*verb)
		ret = keel_fail(EINVAL, "give create or remove, and a name: try keel pool --help");
	if (!ret && !is_name(name))
		ret = keel_fail(EINVAL, "pool '%s': give up to 23 letters and digits", name);
	if (!ret && !strcmp(verb, "create"))
		ret = pool_create(name, &limits);
	else if (!ret && !strcmp(verb, "remove"))
		ret = pool_remove(name);
	else if (!ret)
		ret = keel_fail(EINVAL, "no command '%s': try keel pool --help", verb);
	if (ret)
		fprintf(stderr, "keel: %s\n", keel_error());
	return ret ? 1 : 0;
}
