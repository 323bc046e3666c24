// SPDX-License-Identifier: GPL-2.0-only
/*
 * The keel program: finds the command and hands it the rest of the command line.
 *
 * Commands are a table. Every mistake of the user's is one line on stderr, and status 1.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keel.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "run", keel_run, "run a Linux guest with its console on this terminal" },
	{ "ctl", keel_ctl, "control a guest that runs: pause, reset, console, dump and more" },
	{ "pool", keel_pool, "limits for guests, by name" },
	{ "switch", keel_switch, "the switch of --net switch=NAME; started by run" },
	{ "ps", keel_ps, "list the VMs of this host" },
	{ "top", keel_top, "watch what they do" },
	{ "stat", keel_stat, "say what one of them has done: times, exits and their costs" },
	{ "events", keel_events, "say when one is created, destroyed, killed or in error" },
};

#define COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	fprintf(to, "usage: keel COMMAND [OPTIONS]\n\ncommands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\nkeel COMMAND --help explains a command, keel --version names the version\n");
}

/* With a standard descriptor closed, the next file opened would take its place as the console. */
static void descriptors_fill(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	descriptors_fill();
	if (!strcmp(command, "--help") || !strcmp(command, "-h") || !strcmp(command, "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(command, "--version")) {
		printf("keel %s\n", KEEL_VERSION);
		return 0;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(command, commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	if (*command)
		fprintf(stderr, "keel: unknown command '%s': try keel --help\n", command);
	else
		fprintf(stderr, "keel: no command given: try keel --help\n");
	return 1;
}
