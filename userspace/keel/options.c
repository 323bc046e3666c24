// SPDX-License-Identifier: GPL-2.0-only
/* The command line of keel run: its help, and what its options mean. spec.c reads their values. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "options.h"

static const char help[] =
	"usage: keel run --kernel FILE [OPTIONS]\n"
	"\n"
	"Runs a Linux guest. Its first serial port (ttyS0) is this terminal: Ctrl-A x ends the\n"
	"guest, Ctrl-A Ctrl-A (or Ctrl-A a) sends Ctrl-A.\n"
	"\n"
	"  -k, --kernel FILE    bzImage or uncompressed ELF vmlinux for x86-64\n"
	"      --firmware FILE  in place of a kernel: SeaBIOS, which boots from the first disk\n"
	"  -i, --initrd FILE    initial RAM disk\n"
	"  -a, --append TEXT    kernel command line (default: console=ttyS0)\n"
	"  -m, --memory SIZE    memory: a number with K, M, G or T, MiB when bare (default: 512M)\n"
	"  -c, --cpus N         number of virtual CPUs (default: 1)\n"
	"  -d, --device PATH    /dev/keel (default) or /dev/kvm\n"
	"      --name NAME      a control socket: see keel ctl --help\n"
	"      --cgroup PATH    run in this control group (v2)\n"
	"      --pool NAME      run in this pool: see keel pool --help\n"
	"      --prealloc       have all of the memory now, not when the guest touches it\n"
	"      --no-confine     keep the process's rights: no seccomp filter, no root of its own\n"
	"      --no-acpi        only an MP table tells the guest of its CPUs and interrupts\n"
	"      --stats          at the end, say on stderr what left the kernel how often\n"
	"  -h, --help           this text\n"
	"\n"
	"devices, all of virtio on a PCI bus unless said otherwise:\n"
	"      --disk FILE[,ro][,cache=MODE][,queues=N][,serial=TEXT]\n"
	"                       a disk: a raw image or a block device; MODE is writeback (default),\n"
	"                       writethrough or none\n"
	"      --disk auto[,size=SIZE]\n"
	"                       an empty disk (1G), which is gone with the guest\n"
	"      --net user[,forward=[tcp:|udp:][ADDRESS:]PORT:GUESTPORT]...[,restrict]\n"
	"                       a network behind NAT, without privileges: DHCP, host at 10.0.2.2\n"
	"      --net tap[,bridge=NAME][,ifname=NAME][,vhost=off]\n"
	"                       a tap device, in a bridge that is made if it is not there\n"
	"      --net switch=NAME\n"
	"                       a switch between this user's guests; each --net also takes\n"
	"                       mac=ADDRESS and model=virtio|pcnet\n"
	"      --share DIR[,tag=NAME][,ro]\n"
	"                       a directory, by 9P (needs diod); NAME is 'share' unless given\n"
	"      --console KIND   what reads this terminal: serial (default), or virtio (hvc0)\n"
	"      --rng            random numbers\n"
	"      --balloon        lets the guest give memory back\n"
	"      --vsock CID      sockets between host and guest (needs vhost_vsock)\n"
	"\n"
	"exit status:\n"
	"  S       the guest wrote the byte S to I/O port 0xf4 (outb 0xf4)\n"
	"  0       the guest powered off, asked for a reset or halted for good, or Ctrl-A x\n"
	"  1       bad input, or the host failed\n"
	"  2       the guest shut down by a triple fault\n"
	"  3       the hypervisor could not go on with the guest\n"
	"  128+N   signal N (SIGINT, SIGTERM, SIGHUP) ended the guest\n";

enum {
	OPT_NO_ACPI = 256, OPT_STATS, OPT_PREALLOC, OPT_DISK, OPT_NET, OPT_SHARE, OPT_CONSOLE, OPT_RNG,
	OPT_BALLOON, OPT_VSOCK, OPT_NAME, OPT_NO_CONFINE, OPT_CGROUP, OPT_POOL, OPT_FIRMWARE,
};

static const struct option longs[] = {
	{ "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },
	{ "append", required_argument, NULL, 'a' },
	{ "memory", required_argument, NULL, 'm' },
	{ "cpus", required_argument, NULL, 'c' },
	{ "device", required_argument, NULL, 'd' },
	{ "no-acpi", no_argument, NULL, OPT_NO_ACPI },
	{ "prealloc", no_argument, NULL, OPT_PREALLOC },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "net", required_argument, NULL, OPT_NET },
	{ "share", required_argument, NULL, OPT_SHARE },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "rng", no_argument, NULL, OPT_RNG },
	{ "balloon", no_argument, NULL, OPT_BALLOON },
	{ "vsock", required_argument, NULL, OPT_VSOCK },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "firmware", required_argument, NULL, OPT_FIRMWARE },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "pool", required_argument, NULL, OPT_POOL },
	{ "no-confine", no_argument, NULL, OPT_NO_CONFINE },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int cpus_parse(const char *text, unsigned int *cpus)
{
	unsigned long n = 0;
	int ret = number_parse("--cpus", text, 1, KEEL_MAX_CPUS, &n);

	*cpus = n;
	return ret;
}

static int bad(char **argv, int opt)
{
	const char *arg = argv[optind - 1];

	if (opt == ':')
		return keel_fail(EINVAL, "option '%s' needs a value: try keel run --help", arg);
	if (optopt && arg[0] == '-' && arg[1] != '-')
		return keel_fail(EINVAL, "unknown option '-%c': try keel run --help", optopt);
	return keel_fail(EINVAL, "unknown or ambiguous option '%s': try keel run --help", arg);
}

static int too_many(const char *option, unsigned int most)
{
	return keel_fail(EINVAL, "%s: at most %u of them", option, most);
}

static int device_option(struct options *o, int opt)
{
	unsigned long cid = 0;
	int ret;

	switch (opt) {
	case OPT_DISK:
		if (o->disks == DISKS_MAX)
			return too_many("--disk", DISKS_MAX);
		return disk_parse(optarg, &o->disk[o->disks++]);
	case OPT_NET:
		if (o->nets == NETS_MAX)
			return too_many("--net", NETS_MAX);
		return net_parse(optarg, &o->net[o->nets++]);
	case OPT_SHARE:
		if (o->shares == SHARES_MAX)
			return too_many("--share", SHARES_MAX);
		return share_parse(optarg, &o->share[o->shares++]);
	case OPT_CONSOLE:
		o->virtio_console = !strcmp(optarg, "virtio");
		if (o->virtio_console || !strcmp(optarg, "serial"))
			return 0;
		return keel_fail(EINVAL, "--console %s: give serial or virtio", optarg);
	case OPT_VSOCK:
		ret = number_parse("--vsock", optarg, 3, 0xfffffffe, &cid);
		o->vsock = cid;
		return ret;
	default:
		return -ENOENT;
	}
}

static int one_option(struct options *o, int opt, char **argv)
{
	switch (opt) {
	case 'k':
		o->kernel = optarg;
		return 0;
	case 'i':
		o->initrd = optarg;
		return 0;
	case 'a':
		o->append = optarg;
		return 0;
	case 'm':
		return option_named("--memory", keel_parse_size(optarg, &o->vm.memory));
	case 'c':
		return cpus_parse(optarg, &o->vm.cpus);
	case 'd':
		o->vm.device = optarg;
		return 0;
	case OPT_NO_ACPI:
		o->no_acpi = true;
		return 0;
	case OPT_PREALLOC:
		o->prealloc = true;
		return 0;
	case OPT_STATS:
		o->stats = true;
		return 0;
	case OPT_NAME:
		if (!is_name(optarg))
			return keel_fail(EINVAL, "--name %s: give up to 23 letters and digits",
					 optarg);
		o->name = optarg;
		return 0;
	case OPT_FIRMWARE:
		o->firmware = optarg;
		return 0;
	case OPT_CGROUP:
		o->cgroup = optarg;
		return 0;
	case OPT_POOL:
		if (!is_name(optarg))
			return keel_fail(EINVAL, "--pool %s: give up to 23 letters and digits",
					 optarg);
		o->pool = optarg;
		return 0;
	case OPT_NO_CONFINE:
		o->no_confine = true;
		return 0;
	case OPT_RNG:
		o->rng = true;
		return 0;
	case OPT_BALLOON:
		o->balloon = true;
		return 0;
	case 'h':
		fputs(help, stdout);
		return 1;
	case '?':
	case ':':
		return bad(argv, opt);
	default:
		return device_option(o, opt);
	}
}

int options_parse(int argc, char **argv, struct options *o)
{
	int opt, ret = 0;

	opterr = 0;
	while (!ret && (opt = getopt_long(argc, argv, ":k:i:a:m:c:d:h", longs, NULL)) != -1)
		ret = one_option(o, opt, argv);
	if (!ret && optind < argc)
		ret = keel_fail(EINVAL, "unexpected argument '%s': try keel run --help",
				argv[optind]);
	if (!ret && !o->kernel && !o->firmware)
		ret = keel_fail(EINVAL, "no kernel given: add --kernel FILE");
	if (!ret && o->firmware && (o->kernel || o->initrd || o->append))
		ret = keel_fail(EINVAL, "--firmware: it boots from a disk, and takes no %s",
				o->kernel ? "--kernel" : o->initrd ? "--initrd" : "--append");
	return ret;
}
