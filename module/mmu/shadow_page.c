// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shadow pages: how they are found, made, joined and taken apart, and the bound on their number.
 *
 * A guest page that is shadowed as a page table is write-protected for as long as one of its shadow pages lives, so
 * these stay true to it (shadow_write.c). A shadow page may have many parents, or none for a while; it stays until the
 * guest's writes give it up, its slot goes, or others need its place.
 *
 * What is taken away may be cached by CPUs, as it may on a real one, until the guest flushes: keel_shadow.stale says so,
 * and whoever relies on more (map.c, and the write protection here) flushes first. A page that is taken apart is freed
 * after the next flush. All under mmu.lock but for the allocations.
 */
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "shadow.h"

static void page_free(struct keel_vm *vm, struct keel_shadow_page *page)
{
	if (page->table) {
		set_page_private(virt_to_page(page->table), 0);
		keel_table_free(vm, page->table);
	}
	if (page->links)
		keel_table_free(vm, (u64 *)page->links);
	kfree(page);
}

static struct keel_shadow_page *page_alloc(struct keel_vm *vm)
{
	struct keel_shadow_page *page = kzalloc(sizeof(*page), GFP_KERNEL_ACCOUNT);

	if (!page)
		return NULL;
	page->table = keel_table_alloc(vm);
	page->links = (struct keel_shadow_link **)keel_table_alloc(vm);
	if (!page->table || !page->links) {
		page_free(vm, page);
		return NULL;
	}
	set_page_private(virt_to_page(page->table), (unsigned long)page);
	return page;
}

/**
 * keel_shadow_top_up() - fill the caches of a vCPU with what one fault or root may need
 * @vcpu: the vCPU, locked; mmu.lock is not held
 *
 * Return: 0 or -ENOMEM
 */
int keel_shadow_top_up(struct keel_vcpu *vcpu)
{
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;

	for (; sv->nr_pages < ARRAY_SIZE(sv->pages); sv->nr_pages++) {
		sv->pages[sv->nr_pages] = page_alloc(vcpu->vm);
		if (!sv->pages[sv->nr_pages])
			return -ENOMEM;
	}
	for (; sv->nr_links < ARRAY_SIZE(sv->links); sv->nr_links++) {
		sv->links[sv->nr_links] = kzalloc(sizeof(struct keel_shadow_link), GFP_KERNEL_ACCOUNT);
		if (!sv->links[sv->nr_links])
			return -ENOMEM;
	}
	return 0;
}

/**
 * keel_shadow_bucket() - where the shadow pages of a guest page are
 * @shadow: of the VM
 * @gfn: guest page
 *
 * Return: a chain of struct keel_shadow_page, other pages' among them
 */
struct hlist_head *keel_shadow_bucket(struct keel_shadow *shadow, gfn_t gfn)
{
	return &shadow->pages[hash_64(gfn, KEEL_SHADOW_PAGE_BITS)];
}

/**
 * keel_shadow_tracked() - is this guest page shadowed as a page table?
 * @shadow: of the VM
 * @gfn: guest page
 *
 * Return: true when no mapping of it may be writable
 */
bool keel_shadow_tracked(struct keel_shadow *shadow, gfn_t gfn)
{
	struct keel_shadow_page *page;

	hlist_for_each_entry(page, keel_shadow_bucket(shadow, gfn), hash)
		if (page->gfn == gfn && !page->role.direct)
			return true;
	return false;
}

/**
 * keel_shadow_page_get() - find or make the shadow page of a guest table
 * @vcpu: the vCPU, whose cache is filled
 * @gfn: the table's page; direct: the first guest page to be mapped
 * @role: how it is read
 * @z: for flushes
 *
 * On return no CPU can write the guest's table without an exit.
 *
 * Return: the page, or NULL when the cache is empty
 */
struct keel_shadow_page *keel_shadow_page_get(struct keel_vcpu *vcpu, gfn_t gfn, union keel_shadow_role role,
					      struct keel_zap *z)
{
	struct keel_shadow *shadow = vcpu->vm->mmu.shadow;
	struct hlist_head *bucket = keel_shadow_bucket(shadow, gfn);
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;
	struct keel_shadow_page *page;

	hlist_for_each_entry(page, bucket, hash) {
		if (page->gfn != gfn || page->role.word != role.word)
			continue;
		list_move_tail(&page->age, &shadow->ages);
		page->writes = 0;
		return page;
	}
	if (WARN_ON_ONCE(!sv->nr_pages))
		return NULL;
	page = sv->pages[--sv->nr_pages];
	page->gfn = gfn;
	page->role = role;
	hlist_add_head(&page->hash, bucket);
	list_add_tail(&page->age, &shadow->ages);
	shadow->nr_pages++;
	/* A writable entry that is gone may still be cached. */
	if (!role.direct && (keel_shadow_protect(shadow, gfn) || shadow->stale)) {
		z->flush = true;
		keel_zap_flush(z);
	}
	return page;
}

/**
 * keel_shadow_link() - take a link from the cache for an entry that is to be filled
 * @vcpu: the vCPU, whose cache has one
 * @page: shadow page
 * @index: an empty entry of it
 * @gfn: the guest page that a leaf maps, else 0
 *
 * Return: the link, which the entry has now; the caller adds it to the list of what the entry leads to. NULL: none is left
 */
struct keel_shadow_link *keel_shadow_link(struct keel_vcpu *vcpu, struct keel_shadow_page *page, unsigned int index,
					  gfn_t gfn)
{
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;
	struct keel_shadow_link *link;

	if (WARN_ON_ONCE(!sv->nr_links))
		return NULL;
	link = sv->links[--sv->nr_links];
	link->page = page;
	link->index = index;
	link->gfn = gfn;
	page->links[index] = link;
	return link;
}

/**
 * keel_shadow_set_table() - hang a shadow page below another
 * @vcpu: the vCPU, whose cache has a link
 * @page: the upper one
 * @index: an empty entry of it
 * @child: the lower one
 */
void keel_shadow_set_table(struct keel_vcpu *vcpu, struct keel_shadow_page *page, unsigned int index,
			   struct keel_shadow_page *child)
{
	struct keel_shadow_link *link = keel_shadow_link(vcpu, page, index, 0);

	if (!link)
		return;
	hlist_add_head(&link->node, &child->parents);
	WRITE_ONCE(page->table[index], __pa(child->table) | KEEL_SHADOW_TABLE);
}

/**
 * keel_shadow_clear() - empty an entry; CPUs may cache it until the next flush
 * @vm: the VM
 * @page: shadow page
 * @index: entry, which may be empty
 */
void keel_shadow_clear(struct keel_vm *vm, struct keel_shadow_page *page, unsigned int index)
{
	struct keel_shadow *shadow = vm->mmu.shadow;
	struct keel_shadow_link *link = page->links[index];

	if (!link)
		return;
	WRITE_ONCE(page->table[index], 0);
	page->links[index] = NULL;
	hlist_del(&link->node);
	kfree(link);
	if (page->role.level == 1)
		shadow->nr_leaves--;
	keel_shadow_took(shadow);
}

static void page_bury(struct keel_shadow *shadow, struct keel_shadow_page *page)
{
	page->next_dead = shadow->dead;
	shadow->dead = page;
	shadow->nr_dead++;
	keel_shadow_took(shadow);
}

/**
 * keel_shadow_page_zap() - take a shadow page apart: its guest table, if any, is not tracked by it any more
 * @vm: the VM
 * @page: the page
 *
 * vCPUs that have it as a root look for another.
 */
void keel_shadow_page_zap(struct keel_vm *vm, struct keel_shadow_page *page)
{
	struct keel_shadow *shadow = vm->mmu.shadow;
	struct keel_shadow_link *link;
	unsigned int i;

	for (i = 0; i < KEEL_PTES_PER_TABLE; i++)
		keel_shadow_clear(vm, page, i);
	while (!hlist_empty(&page->parents)) {
		link = hlist_entry(page->parents.first, struct keel_shadow_link, node);
		keel_shadow_clear(vm, link->page, link->index);
	}
	hlist_del(&page->hash);
	list_del(&page->age);
	shadow->nr_pages--;
	page->dead = true;
	if (page->roots)
		keel_vm_request_all(vm, KEEL_REQ_MMU_RELOAD, NULL);
	else
		page_bury(shadow, page);
}

/**
 * keel_shadow_root_put() - a vCPU does not keep a page as a root any more
 * @vm: the VM
 * @page: the page
 */
void keel_shadow_root_put(struct keel_vm *vm, struct keel_shadow_page *page)
{
	if (!--page->roots && page->dead)
		page_bury(vm->mmu.shadow, page);
}

/* A fiftieth of the guest's memory, as with KVM. */
static unsigned long pages_allowed(struct keel_vm *vm)
{
	const struct keel_memslots *slots = srcu_dereference(vm->slots, &vm->srcu);
	struct keel_shadow *shadow = vm->mmu.shadow;
	unsigned long sum = 0;
	int i;

	if (!shadow->max_pages || shadow->slots_generation != slots->generation) {
		for (i = 0; i < slots->nr; i++)
			sum += slots->slot[i].npages;
		shadow->slots_generation = slots->generation;
		shadow->max_pages = max(sum * KEEL_SHADOW_PERMILLE / 1000, (unsigned long)KEEL_SHADOW_MIN_PAGES);
	}
	return shadow->max_pages;
}

/**
 * keel_shadow_reclaim() - make room for one more path of shadow pages
 * @vm: the VM; vm->srcu is held
 * @z: for flushes
 *
 * The longest unused go first. Roots stay: there is a bounded number of them, too.
 */
void keel_shadow_reclaim(struct keel_vm *vm, struct keel_zap *z)
{
	struct keel_shadow *shadow = vm->mmu.shadow;
	struct keel_shadow_page *page, *next;
	unsigned long max = pages_allowed(vm);

	if (likely(shadow->nr_pages + KEEL_SHADOW_PATH <= max && shadow->nr_dead <= KEEL_SHADOW_DEAD_MAX))
		return;
	/* Some more than needed, so that the flush is worth it. */
	list_for_each_entry_safe(page, next, &shadow->ages, age) {
		if (shadow->nr_pages + 2 * KEEL_SHADOW_PATH <= max)
			break;
		if (!page->roots)
			keel_shadow_page_zap(vm, page);
	}
	z->flush = true;
	keel_zap_flush(z);
}

/**
 * keel_shadow_shrink() - give up the shadow pages that were not used for the longest time
 * @z: the work so far
 * @nr: how many tables to look at; a shadow page has one, and one of links
 *
 * Return: how many were looked at
 */
unsigned long keel_shadow_shrink(struct keel_zap *z, unsigned long nr)
{
	struct keel_shadow *shadow = z->vm->mmu.shadow;
	struct keel_shadow_page *page, *next;
	unsigned long seen = 0;

	list_for_each_entry_safe(page, next, &shadow->ages, age) {
		if (seen >= nr)
			break;
		seen += 2;
		if (page->roots)
			continue;
		keel_shadow_page_zap(z->vm, page);
		z->flush = true;
	}
	return seen;
}

/**
 * keel_shadow_zap_tables() - forget guest page tables
 * @z: the work so far
 * @start: first guest page
 * @end: page after the last one
 */
void keel_shadow_zap_tables(struct keel_zap *z, gfn_t start, gfn_t end)
	__must_hold(&z->vm->mmu.lock)
{
	struct keel_shadow *shadow = z->vm->mmu.shadow;
	struct keel_shadow_page *page;
again:
	list_for_each_entry(page, &shadow->ages, age) {
		if (page->role.direct || page->gfn < start || page->gfn >= end)
			continue;
		keel_shadow_page_zap(z->vm, page);
		z->flush = true;
		z->did = true;
		keel_zap_breathe(z);
		goto again;
	}
}

/**
 * keel_shadow_flush_due() - was something taken away that CPUs may still cache?
 * @z: the work so far
 *
 * Return: true when a flush is due beyond what @z says
 */
bool keel_shadow_flush_due(struct keel_zap *z)
{
	return z->vm->mmu.shadow->stale;
}

/**
 * keel_shadow_flushed() - all TLBs were flushed: hand the dead pages to who frees them
 * @z: the work so far
 */
void keel_shadow_flushed(struct keel_zap *z)
{
	struct keel_shadow *shadow = z->vm->mmu.shadow;
	struct keel_shadow_page **end = &z->dead_pages;

	shadow->stale = false;
	while (*end)
		end = &(*end)->next_dead;
	*end = shadow->dead;
	shadow->dead = NULL;
	shadow->nr_dead = 0;
}

/**
 * keel_shadow_free() - free pages after the flush, without the lock
 * @z: the work
 */
void keel_shadow_free(struct keel_zap *z)
{
	struct keel_shadow_page *page;

	while ((page = z->dead_pages)) {
		z->dead_pages = page->next_dead;
		page_free(z->vm, page);
	}
}

int keel_shadow_vm_init(struct keel_vm *vm)
{
	struct keel_shadow *shadow = kvzalloc(sizeof(*shadow), GFP_KERNEL_ACCOUNT);

	if (!shadow)
		return -ENOMEM;
	INIT_LIST_HEAD(&shadow->ages);
	vm->mmu.shadow = shadow;
	return 0;
}

/* No vCPU is left, so there are no roots either. */
void keel_shadow_vm_destroy(struct keel_vm *vm)
{
	struct keel_shadow *shadow = vm->mmu.shadow;
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	struct keel_shadow_page *page, *next;

	if (!shadow)
		return;
	list_for_each_entry_safe(page, next, &shadow->ages, age)
		keel_shadow_page_zap(vm, page);
	keel_shadow_flushed(&z);
	keel_shadow_free(&z);
	kvfree(shadow);
	vm->mmu.shadow = NULL;
}

int keel_shadow_vcpu_init(struct keel_vcpu *vcpu)
{
	struct keel_shadow_vcpu *sv = kzalloc(sizeof(*sv), GFP_KERNEL_ACCOUNT);

	if (!sv)
		return -ENOMEM;
	vcpu->mmu.shadow = sv;
	sv->write_gfn = KEEL_NO_GFN;
	/* CR3 has 32 bits without long mode. */
	sv->pae = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT | __GFP_DMA32);
	return sv->pae ? 0 : -ENOMEM;
}

void keel_shadow_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;
	unsigned int i, j;

	if (!sv)
		return;
	write_lock(&vcpu->vm->mmu.lock);
	for (i = 0; i < KEEL_MMU_ROOTS; i++)
		for (j = 0; j < ARRAY_SIZE(sv->roots[i].top); j++)
			if (sv->roots[i].top[j])
				keel_shadow_root_put(vcpu->vm, sv->roots[i].top[j]);
	write_unlock(&vcpu->vm->mmu.lock);
	while (sv->nr_pages)
		page_free(vcpu->vm, sv->pages[--sv->nr_pages]);
	while (sv->nr_links)
		kfree(sv->links[--sv->nr_links]);
	free_page((unsigned long)sv->pae);
	kfree(sv);
	vcpu->mmu.shadow = NULL;
}
