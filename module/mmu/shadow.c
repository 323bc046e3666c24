// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shadow paging: without nested paging the CPU walks tables of ours, which lead from the guest's linear addresses to host
 * pages. They are made fault by fault from what a walk of the guest's own tables finds (gwalk.c), and kept true to those
 * by write protection (shadow_write.c). Documentation/shadow.rst tells it from the beginning.
 *
 * Here are the roots and the faults. Shadow tables have the format of long mode or, for guests not in long mode, of PAE
 * (SDM 3A, 4.4 and 4.5; APM 2, 5.2 and 5.3), whatever the guest's own is. The vCPU is locked; mmu.lock guards the tables.
 */
#include <linux/mm.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "gwalk.h"
#include "ops.h"
#include "shadow.h"

/* One fault: the guest's side of it, around the host's. */
struct shadow_fault {
	struct keel_map map;
	struct keel_walk walk;
	gva_t gva;
	union keel_shadow_role role;	/* of the root */
	bool emulate;
};

static union keel_shadow_role root_role(const struct keel_state *st)
{
	union keel_shadow_role role = { .access = KEEL_GRANT_ALL, .level = 2 };

	if (!(st->cr0 & X86_CR0_PG)) {
		role.direct = 1;
		return role;
	}
	if (st->efer & EFER_LMA) {
		role.guest = KEEL_SHADOW_LONG;
		role.level = 4;
	} else if (st->cr4 & X86_CR4_PAE) {
		role.guest = KEEL_SHADOW_PAE;
	} else {
		role.guest = KEEL_SHADOW_32;
		role.pse = !!(st->cr4 & X86_CR4_PSE);
	}
	role.nx = !!(st->efer & EFER_NX);
	role.wp = !!(st->cr0 & X86_CR0_WP);
	role.smep = !role.wp && (st->cr4 & X86_CR4_SMEP);
	role.smap = !role.wp && (st->cr4 & X86_CR4_SMAP);
	return role;
}

/* What, beside the role, makes one root differ from another. */
static void root_key(const struct keel_state *st, union keel_shadow_role role, u64 key[4])
{
	int i;

	memset(key, 0, 4 * sizeof(key[0]));
	switch (role.guest) {
	case KEEL_SHADOW_LONG:
		key[0] = (st->cr3 & KEEL_PTE_PA_MASK) >> PAGE_SHIFT;
		break;
	case KEEL_SHADOW_32:
		key[0] = (st->cr3 & GENMASK_ULL(31, 12)) >> PAGE_SHIFT;
		break;
	case KEEL_SHADOW_PAE:
		for (i = 0; i < 4; i++)
			if (st->pdpte[i] & KEEL_GPTE_P)
				key[i] = st->pdpte[i] & (KEEL_PTE_PA_MASK | KEEL_GPTE_P);
		break;
	}
}

static bool root_alive(const struct keel_shadow_root *root)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(root->top); i++)
		if (root->top[i] && root->top[i]->dead)
			return false;
	return root->pa;
}

static void root_drop(struct keel_vm *vm, struct keel_shadow_root *root)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(root->top); i++) {
		if (root->top[i])
			keel_shadow_root_put(vm, root->top[i]);
		root->top[i] = NULL;
	}
	root->pa = 0;
}

/* The shadow page at the top of the @i-th GiB, or of everything in long mode; NULL: there is none. */
static struct keel_shadow_page *root_top(struct keel_vcpu *vcpu, const struct keel_shadow_root *root, unsigned int i,
					 struct keel_zap *z)
{
	union keel_shadow_role role = root->role;

	switch (role.guest) {
	case KEEL_SHADOW_LONG:
		return i ? NULL : keel_shadow_page_get(vcpu, root->key[0], role, z);
	case KEEL_SHADOW_PAE:
		return root->key[i] ? keel_shadow_page_get(vcpu, root->key[i] >> PAGE_SHIFT, role, z) : NULL;
	case KEEL_SHADOW_32:
		role.quadrant = i;
		return keel_shadow_page_get(vcpu, root->key[0], role, z);
	default:
		return keel_shadow_page_get(vcpu, i * keel_level_span(3), role, z);
	}
}

static void root_make(struct keel_vcpu *vcpu, struct keel_shadow_root *root, union keel_shadow_role role,
		      const u64 key[4], struct keel_zap *z)
{
	u64 *pdpte = vcpu->mmu.shadow->pae[root - vcpu->mmu.shadow->roots];
	unsigned int i;

	root->role = role;
	memcpy(root->key, key, sizeof(root->key));
	for (i = 0; i < ARRAY_SIZE(root->top); i++) {
		root->top[i] = root_top(vcpu, root, i, z);
		if (root->top[i])
			root->top[i]->roots++;
		pdpte[i] = root->top[i] ? __pa(root->top[i]->table) | KEEL_SHADOW_P : 0;
	}
	root->pa = role.guest == KEEL_SHADOW_LONG ? __pa(root->top[0]->table) : __pa(pdpte);
}

/* mmu.lock held. One that the vCPU has kept, or a new one in the place of the oldest. */
static struct keel_shadow_root *root_find(struct keel_vcpu *vcpu, struct keel_zap *z)
{
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;
	union keel_shadow_role role = root_role(&vcpu->st);
	struct keel_shadow_root *root, *free = NULL;
	unsigned int i;
	u64 key[4];

	root_key(&vcpu->st, role, key);
	for (i = 0; i < KEEL_MMU_ROOTS; i++) {
		root = &sv->roots[i];
		if (!root_alive(root))
			root_drop(vcpu->vm, root);
		if (!root->pa)
			free = root;
		else if (root->role.word == role.word && !memcmp(root->key, key, sizeof(key)))
			return root;
	}
	if (!free) {
		if (&sv->roots[sv->victim] == sv->root)
			sv->victim = (sv->victim + 1) % KEEL_MMU_ROOTS;
		free = &sv->roots[sv->victim];
		sv->victim = (sv->victim + 1) % KEEL_MMU_ROOTS;
		root_drop(vcpu->vm, free);
	}
	root_make(vcpu, free, role, key, z);
	vcpu->mmu.drop_tags |= BIT(free - sv->roots);
	return free;
}

/**
 * keel_shadow_load() - make the root fit the guest's control registers
 * @vcpu: the vCPU, locked, outside the window; vm->srcu is held
 *
 * Return: 0 or -ENOMEM
 */
int keel_shadow_load(struct keel_vcpu *vcpu)
{
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;
	struct keel_vm *vm = vcpu->vm;
	struct keel_zap z = { .vm = vm, .may_sleep = true };

	if (keel_shadow_top_up(vcpu))
		return -ENOMEM;
	keel_st(vcpu, KEEL_ST_CR);
	write_lock(&vm->mmu.lock);
	keel_shadow_reclaim(vm, &z);
	sv->root = root_find(vcpu, &z);
	write_unlock(&vm->mmu.lock);
	if (z.dead_pages)
		keel_shadow_free(&z);
	vcpu->mmu.root = sv->root->pa;
	vcpu->mmu.tag = sv->root - sv->roots;
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_ROOT);
	return 0;
}

static u32 entry_grants(const struct keel_walk *w, u64 pte)
{
	return (pte & KEEL_GPTE_W ? KEEL_GRANT_W : 0) | (pte & KEEL_GPTE_U ? KEEL_GRANT_U : 0) |
	       (w->entry_size == 8 && (pte & KEEL_GPTE_NX) ? 0 : KEEL_GRANT_X);
}

/* What the guest's entries grant together, from the top down to @level. */
static u32 walk_grants(const struct shadow_fault *f, int level)
{
	const struct keel_walk *w = &f->walk;
	u32 grants = KEEL_GRANT_ALL;
	int i;

	if (f->role.guest == KEEL_SHADOW_UNPAGED)
		return grants;
	for (i = w->levels; i >= max(level, w->leaf_level); i--)
		if (!(keel_walk_is_pae(w) && i == 3))
			grants &= entry_grants(w, w->pte[i]);
	return grants;
}

/*
 * Is the guest's entry at @level still what the walk has seen? Its table is write-protected by now: who changes it
 * waits for mmu.lock, to take away what is made from the old value.
 */
static bool entry_unchanged(const struct shadow_fault *f, int level)
{
	const struct keel_walk *w = &f->walk;
	u64 now = 0;

	if (f->role.guest == KEEL_SHADOW_UNPAGED || level < w->leaf_level)
		return true;
	return !keel_guest_read_atomic(f->map.vcpu->vm, w->pte_gpa[level], &now, w->entry_size) && now == w->pte[level];
}

/* Which shadow page belongs below @level? */
static gfn_t child_of(const struct shadow_fault *f, int level, union keel_shadow_role *role)
{
	const struct keel_walk *w = &f->walk;
	u64 table;

	*role = f->role;
	role->level = level - 1;
	role->access = walk_grants(f, level);
	if (role->direct || level <= w->leaf_level) {
		role->direct = 1;
		return f->map.gfn & ~(keel_level_span(level) - 1);
	}
	table = w->pte[level] & (w->entry_size == 4 ? GENMASK_ULL(31, 12) : KEEL_PTE_PA_MASK);
	if (role->guest == KEEL_SHADOW_32)
		role->quadrant = f->gva >> 21 & 1;
	return table >> PAGE_SHIFT;
}

/*
 * The leaf. A page is writable only when the guest's entry is dirty, so that the first write is seen and sets that bit.
 * Without CR0.WP the guest's kernel may write to read-only pages. The CPU always runs with it; a page of user mode that
 * the kernel so writes to becomes one of the kernel's, until user mode touches it. SMEP forbids the kernel to execute
 * it: it cannot be executed then. What SMAP would forbid cannot be expressed: such a write is emulated. 0: emulate
 */
static u64 leaf_make(const struct shadow_fault *f)
{
	const struct keel_map *m = &f->map;
	const struct keel_walk *w = &f->walk;
	bool paged = f->role.guest != KEEL_SHADOW_UNPAGED;
	u32 grants = walk_grants(f, 1);
	u64 leaf = m->host.pfn << PAGE_SHIFT | KEEL_SHADOW_P | KEEL_SHADOW_A;

	if (m->host.write && !(grants & KEEL_GRANT_W)) {
		if (grants & KEEL_GRANT_U) {
			if (f->role.smap)
				return 0;
			if (f->role.smep)
				grants &= ~KEEL_GRANT_X;
		}
		grants = (grants & ~KEEL_GRANT_U) | KEEL_GRANT_W;
	}
	if (!m->host.page && !pfn_valid(m->host.pfn))
		leaf |= KEEL_SHADOW_UC;
	if (grants & KEEL_GRANT_U)
		leaf |= KEEL_SHADOW_U;
	if (!(grants & KEEL_GRANT_X) && boot_cpu_has(X86_FEATURE_NX))
		leaf |= KEEL_SHADOW_NX;
	if ((grants & KEEL_GRANT_W) && m->host.writable && m->map_writable &&
	    (!paged || m->host.write || (w->pte[w->leaf_level] & KEEL_GPTE_D)))
		leaf |= KEEL_SHADOW_W | KEEL_SHADOW_D;
	return leaf;
}

static void leaf_install(struct shadow_fault *f, struct keel_shadow_page *page, unsigned int index)
{
	const u64 granted = KEEL_SHADOW_W | KEEL_SHADOW_U;
	struct keel_map *m = &f->map;
	struct keel_vm *vm = m->vcpu->vm;
	u64 old = READ_ONCE(page->table[index]), new = leaf_make(f);

	if (keel_shadow_tracked(vm->mmu.shadow, m->gfn)) {
		f->emulate = m->host.write;
		new &= ~(KEEL_SHADOW_W | KEEL_SHADOW_D);
	}
	f->emulate |= !new;
	if (f->emulate)
		return;
	if (new & KEEL_SHADOW_W)
		keel_mark_dirty(m->vcpu, m->slot, m->gfn);
	if (old && !((old ^ new) & KEEL_PTE_PA_MASK) && !(old & ~new & granted) && !(new & ~old & KEEL_SHADOW_NX)) {
		WRITE_ONCE(page->table[index], new);
		return;
	}
	keel_shadow_clear(vm, page, index);
	keel_shadow_set_leaf(m->vcpu, page, index, m->gfn, new);
}

/*
 * Behind a page that was read, others of the same large page of the guest's (or of a guest without paging) are mapped as
 * well, if the host has them at hand: one exit for all. The guest's rights to them are the same. They are neither accessed
 * nor writable: none counts as used, or dirty, that the guest does not touch. They are few at first, and twice as many where
 * the guest reads on behind the last of them.
 */
static void map_ahead(const struct shadow_fault *f, struct keel_shadow_page *page, unsigned int index)
{
	const struct keel_map *m = &f->map;
	struct keel_shadow_vcpu *sv = m->vcpu->mmu.shadow;
	unsigned long hva = m->host.hva + PAGE_SIZE;
	struct page *pages[KEEL_SHADOW_AHEAD];
	gfn_t left = m->slot->base_gfn + m->slot->npages - m->gfn;
	unsigned int most, i;
	u64 rights;
	int n;

	if (!page->role.direct || m->host.write || !m->host.page)
		return;
	/* A vCPU that has mapped none yet has zeroes here, which page 0 would follow. */
	sv->ahead = f->gva >> PAGE_SHIFT == sv->ahead_next ? 2 * sv->ahead : 0;
	sv->ahead = clamp_t(unsigned int, sv->ahead, KEEL_SHADOW_AHEAD_MIN, KEEL_SHADOW_AHEAD);
	sv->ahead_next = (f->gva >> PAGE_SHIFT) + 1;
	most = min_t(gfn_t, min(sv->ahead, PTRS_PER_PTE - index), left) - 1;
	for (i = 0; i < most && !page->table[index + 1 + i]; i++)
		;
	most = min_t(unsigned int, i, sv->nr_links);
	if (!most || keel_range_invalidating(&m->vcpu->vm->mmu, hva, most * PAGE_SIZE))
		return;
	rights = page->table[index] & ~(KEEL_PTE_PA_MASK | KEEL_SHADOW_W | KEEL_SHADOW_D | KEEL_SHADOW_A);
	n = get_user_pages_fast_only(hva, most, 0, pages);
	for (i = 0; (int)i < n; i++) {
		keel_shadow_set_leaf(m->vcpu, page, index + 1 + i, m->gfn + 1 + i,
				     (u64)page_to_pfn(pages[i]) << PAGE_SHIFT | rights);
		put_page(pages[i]);
	}
	sv->ahead_next += i;
}

/**
 * keel_shadow_install() - map a page of the guest's
 * @m: embedded in the fault; the host's side is known to be true
 * @z: what the caller flushes and frees
 *
 * Goes down from the root, making what is missing. Where the guest has changed its tables since they were walked, it
 * stops; the guest runs its instruction again.
 */
void keel_shadow_install(struct keel_map *m, struct keel_zap *z)
{
	struct shadow_fault *f = container_of(m, struct shadow_fault, map);
	struct keel_shadow_root *root = m->vcpu->mmu.shadow->root;
	struct keel_vm *vm = m->vcpu->vm;
	struct keel_shadow_page *page, *child;
	union keel_shadow_role role;
	unsigned int index;
	gfn_t gfn;
	int level;

	keel_shadow_reclaim(vm, z);
	if (!root || !root_alive(root)) {
		keel_request(KEEL_REQ_MMU_RELOAD, m->vcpu);
		return;
	}
	page = root->top[root->role.guest == KEEL_SHADOW_LONG ? 0 : f->gva >> 30 & 3];
	if (!page)
		return;
	for (level = page->role.level;; level--) {
		page->writes = 0;
		index = keel_level_index(f->gva >> PAGE_SHIFT, level);
		if (!entry_unchanged(f, level))
			return;
		if (level == 1)
			break;
		gfn = child_of(f, level, &role);
		child = page->table[index] ? keel_shadow_child(page->table[index]) : NULL;
		if (!child || child->gfn != gfn || child->role.word != role.word) {
			keel_shadow_clear(vm, page, index);
			child = keel_shadow_page_get(m->vcpu, gfn, role, z);
			if (!child)
				return;
			keel_shadow_set_table(m->vcpu, page, index, child);
		}
		page = child;
	}
	leaf_install(f, page, index);
	if (!f->emulate)
		map_ahead(f, page, index);
}

/* The guest's own #PF. What was being delivered when it was raised is lost, or makes a double fault of it. */
static int guest_fault(struct keel_vcpu *vcpu, const struct keel_fault *fault)
{
	vcpu->ev.intr.injected = false;
	vcpu->ev.nmi.injected = false;
	keel_inject_fault(vcpu, fault);
	return KEEL_MMU_RETRY;
}

/* Is @gfn one of the tables that the walk went through? */
static bool walked_through(const struct shadow_fault *f, gfn_t gfn)
{
	int level;

	if (f->role.guest == KEEL_SHADOW_UNPAGED)
		return false;
	for (level = f->walk.levels; level >= f->walk.leaf_level; level--)
		if (f->walk.pte_gpa[level] >> PAGE_SHIFT == gfn)
			return true;
	return false;
}

/* The instruction writes to a page table. One that the emulator does not know may go on once that is none any more. */
static int table_write(struct shadow_fault *f)
{
	if (!walked_through(f, f->map.gfn))
		f->map.vcpu->mmu.shadow->write_gfn = f->map.gfn;
	return KEEL_MMU_EMULATE;
}

/**
 * keel_shadow_fault() - a #PF that the CPU raised on the shadow tables
 * @vcpu: the vCPU, locked, outside the window
 * @gva: linear address
 * @access: KEEL_ACC_*, of the error code
 * @gpa: where the access goes, with KEEL_MMU_EMULATE
 *
 * The walk of the guest's tables says whether it is the guest's.
 *
 * Return: as keel_mmu_fault()
 */
int keel_shadow_fault(struct keel_vcpu *vcpu, gva_t gva, u32 access, gpa_t *gpa)
{
	struct shadow_fault f = {
		.map = { .vcpu = vcpu, .host.write = access & KEEL_ACC_WRITE },
		.gva = gva,
		.role = root_role(keel_st(vcpu, KEEL_ST_CR)),
	};
	struct keel_shadow *shadow = vcpu->vm->mmu.shadow;
	const struct keel_events *ev = &vcpu->ev;
	struct keel_fault fault;
	bool tracked;
	int r;

	might_sleep();
	vcpu->mmu.shadow->write_gfn = KEEL_NO_GFN;
	access &= ~KEEL_ACC_PRESENT;
	/* The CPU's own accesses, to descriptor tables and stacks, do not heed EFLAGS.AC. */
	if (!(access & KEEL_ACC_USER) && (keel_st(vcpu, KEEL_ST_CODE)->cpl == 3 || ev->exc.injected ||
					  ev->intr.injected || ev->nmi.injected))
		access |= KEEL_ACC_IMPLICIT;
	r = keel_gva_walk(vcpu, gva, access, &f.walk, gpa, &fault, false);
	if (r == -EFAULT)
		return guest_fault(vcpu, &fault);
	if (r)
		return KEEL_MMU_RETRY;
	f.map.gfn = *gpa >> PAGE_SHIFT;
	f.map.access = access;

	if (f.map.host.write) {
		write_lock(&vcpu->vm->mmu.lock);
		tracked = keel_shadow_tracked(shadow, f.map.gfn);
		write_unlock(&vcpu->vm->mmu.lock);
		if (tracked)
			return table_write(&f);
	}
	r = keel_shadow_top_up(vcpu);
	if (r)
		return r;
	r = keel_map_gfn(&f.map);
	if (r == KEEL_MMU_RETRY && f.emulate)
		return table_write(&f);
	return r;
}

/**
 * keel_shadow_sync() - the guest flushes its TLB
 * @vcpu: the vCPU, locked
 *
 * The shadow tables are true already; only what was taken away from them since this vCPU's last flush may be cached.
 */
void keel_shadow_sync(struct keel_vcpu *vcpu)
{
	struct keel_shadow_vcpu *sv = vcpu->mmu.shadow;
	u64 zaps = READ_ONCE(vcpu->vm->mmu.shadow->zaps);

	if (sv->zaps == zaps)
		return;
	sv->zaps = zaps;
	keel_request(KEEL_REQ_TLB_FLUSH, vcpu);
}

/**
 * keel_shadow_invlpg() - the guest executes INVLPG
 * @vcpu: the vCPU, locked, outside the window
 * @gva: linear address
 *
 * The entry is read anew, too: the client may have written to the guest's table, which nothing else tells us.
 */
void keel_shadow_invlpg(struct keel_vcpu *vcpu, gva_t gva)
{
	struct keel_shadow_root *root = vcpu->mmu.shadow->root;
	struct keel_vm *vm = vcpu->vm;
	struct keel_shadow_page *page;
	unsigned int index;

	write_lock(&vm->mmu.lock);
	page = root && root_alive(root) ? root->top[root->role.guest == KEEL_SHADOW_LONG ? 0 : gva >> 30 & 3] : NULL;
	while (page) {
		index = keel_level_index(gva >> PAGE_SHIFT, page->role.level);
		if (page->role.level == 1) {
			keel_shadow_clear(vm, page, index);
			break;
		}
		page = page->table[index] ? keel_shadow_child(page->table[index]) : NULL;
	}
	write_unlock(&vm->mmu.lock);
	keel_shadow_sync(vcpu);
}

/**
 * keel_shadow_forget() - read all of the guest's tables anew
 * @vm: the VM
 *
 * For clients that set registers: they may have written tables as well. May sleep.
 */
void keel_shadow_forget(struct keel_vm *vm)
{
	keel_mmu_zap_gfns(vm, 0, KEEL_SHADOW_END);
}
