// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET_STATS_FD: counters of a VM or a vCPU in KVM's binary format, on a file descriptor of their own.
 *
 * A file reads as one block: a header, the name of what is counted, a descriptor a counter, the values. The
 * layout never changes while the file is open; the values are those of the moment of each read, taken without a
 * lock while the vCPU runs. A table says what there is. The file keeps the VM.
 * Section 4.133 of the kernel's Documentation/virt/kvm/api.rst has the format.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "ops.h"

#define NAME_SIZE	48	/* KVM's, too */

struct counter {
	const char *name;
	u32 flags;
	u64 (*get)(struct keel_vm *vm, struct keel_vcpu *vcpu);
};

#define COUNTER	(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)
#define LEVEL	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)

#define GETTER(name, expr) \
	static u64 get_##name(struct keel_vm *vm, struct keel_vcpu *vcpu) { return expr; }

GETTER(vcpus, READ_ONCE(vm->nr_vcpus))
GETTER(tables, atomic_long_read(&vm->mmu.nr_tables))
GETTER(exits, keel_stats_exits(vcpu))
GETTER(emulated, READ_ONCE(vcpu->nr_emulated))
GETTER(user_exits, READ_ONCE(vcpu->stats.user_exits))
GETTER(faults, READ_ONCE(vcpu->stats.exits[KEEL_REASON_NESTED_FAULT].count))
GETTER(fast_faults, READ_ONCE(vcpu->stats.fast_faults))
GETTER(waited_faults, READ_ONCE(vcpu->stats.waited_faults))
GETTER(exclusive_faults, READ_ONCE(vcpu->stats.exclusive_faults))
GETTER(halts, READ_ONCE(vcpu->stats.halts))
GETTER(halt_polls, READ_ONCE(vcpu->stats.halt_polls))
GETTER(halt_poll_hits, READ_ONCE(vcpu->stats.halt_poll_hits))
GETTER(pause_exits, READ_ONCE(vcpu->stats.exits[KEEL_REASON_PAUSE].count))
GETTER(yields_tried, READ_ONCE(vcpu->stats.yields_tried))
GETTER(yields_done, READ_ONCE(vcpu->stats.yields_done))
GETTER(blocking, READ_ONCE(vcpu->mp_state) == KVM_MP_STATE_HALTED)

static const struct counter vm_stats[] = {
	{ "vcpus", LEVEL, get_vcpus },
	{ "mmu_table_pages", LEVEL, get_tables },
};

/* Where KVM counts the same, the name is KVM's. */
static const struct counter vcpu_stats[] = {
	{ "exits", COUNTER, get_exits },
	{ "user_exits", COUNTER, get_user_exits },
	{ "insn_emulation", COUNTER, get_emulated },
	{ "pf_taken", COUNTER, get_faults },
	{ "pf_fast", COUNTER, get_fast_faults },
	{ "pf_waited", COUNTER, get_waited_faults },
	{ "pf_exclusive", COUNTER, get_exclusive_faults },
	{ "halt_exits", COUNTER, get_halts },
	{ "halt_attempted_poll", COUNTER, get_halt_polls },
	{ "halt_successful_poll", COUNTER, get_halt_poll_hits },
	{ "pause_exits", COUNTER, get_pause_exits },
	{ "directed_yield_attempted", COUNTER, get_yields_tried },
	{ "directed_yield_successful", COUNTER, get_yields_done },
	{ "blocking", KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN | KVM_STATS_BASE_POW10, get_blocking },
};

/* What a file is of, and the block that it reads as: @block is written anew by each read. */
struct stats_file {
	struct keel_vm *vm;
	struct keel_vcpu *vcpu;		/* NULL: the VM's */
	const struct counter *stats;
	unsigned int nr;
	struct mutex lock;		/* block */
	size_t size;
	u64 *values;
	u8 block[] __aligned(8);
};

static size_t desc_size(void)
{
	return sizeof(struct kvm_stats_desc) + NAME_SIZE;
}

static void describe(struct stats_file *sf)
{
	struct kvm_stats_header *header = (void *)sf->block;
	struct kvm_stats_desc *desc;
	unsigned int i;

	*header = (struct kvm_stats_header) {
		.name_size = NAME_SIZE,
		.num_desc = sf->nr,
		.id_offset = sizeof(*header),
		.desc_offset = sizeof(*header) + NAME_SIZE,
		.data_offset = sizeof(*header) + NAME_SIZE + sf->nr * desc_size(),
	};
	if (sf->vcpu)
		scnprintf(sf->block + header->id_offset, NAME_SIZE, "kvm-%d/vcpu-%u", task_pid_nr(current),
			  sf->vcpu->id);
	else
		scnprintf(sf->block + header->id_offset, NAME_SIZE, "kvm-%d", task_pid_nr(current));
	for (i = 0; i < sf->nr; i++) {
		desc = (void *)(sf->block + header->desc_offset + i * desc_size());
		desc->flags = sf->stats[i].flags;
		desc->size = 1;
		desc->offset = i * sizeof(u64);
		strscpy(desc->name, sf->stats[i].name, NAME_SIZE);
	}
	sf->values = (void *)(sf->block + header->data_offset);
}

static ssize_t stats_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	struct stats_file *sf = file->private_data;
	unsigned int i;
	ssize_t r;

	mutex_lock(&sf->lock);
	for (i = 0; i < sf->nr; i++)
		sf->values[i] = sf->stats[i].get(sf->vm, sf->vcpu);
	r = simple_read_from_buffer(buf, size, pos, sf->block, sf->size);
	mutex_unlock(&sf->lock);
	return r;
}

static int stats_release(struct inode *inode, struct file *file)
{
	struct stats_file *sf = file->private_data;

	keel_vm_put(sf->vm);
	kfree(sf);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.read = stats_read,
	.release = stats_release,
	.llseek = noop_llseek,
};

/**
 * keel_stats_fd() - KVM_GET_STATS_FD
 * @vm: the VM
 * @vcpu: one of its vCPUs, or NULL for the counters of the VM
 *
 * Return: a file descriptor; -ENOMEM; -EMFILE
 */
int keel_stats_fd(struct keel_vm *vm, struct keel_vcpu *vcpu)
{
	unsigned int nr = vcpu ? ARRAY_SIZE(vcpu_stats) : ARRAY_SIZE(vm_stats);
	size_t size = sizeof(struct kvm_stats_header) + NAME_SIZE + nr * (desc_size() + sizeof(u64));
	struct stats_file *sf = kzalloc(sizeof(*sf) + size, GFP_KERNEL_ACCOUNT);
	struct file *file;
	int fd;

	if (!sf)
		return -ENOMEM;
	sf->vm = vm;
	sf->vcpu = vcpu;
	sf->stats = vcpu ? vcpu_stats : vm_stats;
	sf->nr = nr;
	sf->size = size;
	mutex_init(&sf->lock);
	describe(sf);
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		kfree(sf);
		return fd;
	}
	file = anon_inode_getfile(vcpu ? "keel-vcpu-stats" : "keel-vm-stats", &stats_fops, sf, O_RDONLY);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		kfree(sf);
		return PTR_ERR(file);
	}
	keel_vm_get(vm);
	file->f_mode |= FMODE_PREAD;
	fd_install(fd, file);
	return fd;
}
