// SPDX-License-Identifier: GPL-2.0-only
/*
 * How often each line of the module ran, for gcov(1): a path written to the parameter "cover" is a file that takes the
 * counters as they are, while they go on. Only a module that is built with KEEL_GCOV=1 has it ('make check COVER=1'),
 * for the kernels that Debian ships have no gcov of their own (CONFIG_GCOV_KERNEL).
 *
 * The file is a sequence of: length of a name, the name of a .gcda file, length of its content, the content; lengths are
 * 32 bits. The structures and the content are the compiler's own (gcc/gcov-io.h of GCC 12).
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "keel.h"

#define GCDA_MAGIC	0x67636461
#define TAG_FUNCTION	0x01000000
#define TAG_COUNTERS(n)	(0x01a10000 + ((n) << 17))
#define COUNTER_KINDS	(__GNUC__ >= 14 ? 9 : 8)

struct counters {
	u32 num;
	u64 *values;
};

struct function {
	const struct object *key;	/* the object that counts, where several have the function */
	u32 ident, lines_checksum, cfg_checksum;
	struct counters counters[];	/* of the kinds that are in use */
};

struct object {
	u32 version;
	struct object *next;
	u32 stamp, checksum;
	const char *filename;
	void *merge[COUNTER_KINDS];	/* NULL: a kind that is not in use */
	u32 nr_functions;
	const struct function *const *functions;
};

extern const struct object *const keel_gcov_begin[], *const keel_gcov_end[];

/* What the objects name as the function that adds two runs up; nobody calls it. */
void __gcov_merge_add(u64 *values, u32 num);
void __gcov_merge_add(u64 *values, u32 num)
{
}

/* Bytes, with their number; without a place to put them they are counted. */
struct dump {
	u8 *data;
	size_t size;
};

static void put(struct dump *d, const void *data, size_t size)
{
	if (d->data)
		memcpy(d->data + d->size, data, size);
	d->size += size;
}

static void put32(struct dump *d, u32 value)
{
	put(d, &value, sizeof(value));
}

static void put_function(struct dump *d, const struct object *o, const struct function *f)
{
	const struct counters *c;
	unsigned int kind;

	put32(d, TAG_FUNCTION);
	put32(d, 3 * sizeof(u32));
	put32(d, f->ident);
	put32(d, f->lines_checksum);
	put32(d, f->cfg_checksum);
	for (c = f->counters, kind = 0; kind < COUNTER_KINDS; kind++) {
		if (!o->merge[kind])
			continue;
		put32(d, TAG_COUNTERS(kind));
		put32(d, c->num * sizeof(u64));
		put(d, c->values, c->num * sizeof(u64));
		c++;
	}
}

static void put_object(struct dump *d, const struct object *o)
{
	unsigned int i;

	put32(d, GCDA_MAGIC);
	put32(d, o->version);
	put32(d, o->stamp);
	put32(d, o->checksum);
	for (i = 0; i < o->nr_functions; i++)
		if (o->functions[i] && o->functions[i]->key == o)
			put_function(d, o, o->functions[i]);
}

static void put_all(struct dump *d)
{
	const struct object *const *o;

	for (o = keel_gcov_begin; o < keel_gcov_end; o++) {
		struct dump content = { };

		put_object(&content, *o);
		put32(d, strlen((*o)->filename));
		put(d, (*o)->filename, strlen((*o)->filename));
		put32(d, content.size);
		put_object(d, *o);
	}
}

static int write_file(const char *path, const struct dump *d)
{
	struct file *file = filp_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	loff_t at = 0;
	ssize_t r = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	while (r >= 0 && at < d->size)
		r = kernel_write(file, d->data + at, d->size - at, &at);
	filp_close(file, NULL);
	return r < 0 ? r : 0;
}

static int cover_set(const char *value, const struct kernel_param *kp)
{
	struct dump d = { };
	char *path;
	int r;

	put_all(&d);
	path = kstrdup(value, GFP_KERNEL);
	d.data = vmalloc(d.size);
	r = -ENOMEM;
	if (path && d.data) {
		d.size = 0;
		put_all(&d);
		r = write_file(strim(path), &d);
	}
	vfree(d.data);
	kfree(path);
	return r;
}

static const struct kernel_param_ops cover_ops = { .set = cover_set };
module_param_cb(cover, &cover_ops, NULL, 0200);
MODULE_PARM_DESC(cover, "a file to write the counters of executed lines to");
