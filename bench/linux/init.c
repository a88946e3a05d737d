/*
 * What memory management costs under Linux, in instructions: the baseline of `ntmm bench kernel`.
 *
 * This program is the only process of a Linux kernel in QEMU with `-icount shift=0`, where the
 * time stamp counter counts executed instructions (each iteration of a `rep` instruction is one).
 * It does what kernel/user/src/bin/bench.rs does under ntmm's kernel by the nearest Linux calls,
 * prints a line `NAME INSTRUCTIONS` for each operation, and ends the machine. A line that begins
 * with `#` says why something is missing.
 *
 * An operation is timed by two readings of the counter, many times over. What two readings with
 * nothing between them differ by is taken off, and the median is reported; that leaves out timer
 * ticks and what happens once for many pages (new page tables, caches that are filled again).
 * System calls are made by the instruction, without the C library. No huge pages are used.
 *
 * null_system_call              getppid by `syscall`
 * null_system_call_interrupt    getppid by `int 0x80`
 * demand_zero_fault             first write to a page of a private anonymous mapping
 * demand_zero_fault_zeroed      the same less the 512 iterations of `rep stosq` that fill a page:
 *                               Linux keeps no zeroed pages, and this is the stricter comparison
 * transition_fault              write to a page of a shared mapping of a memory file; the page is
 *                               in the file and was unmapped by MADV_DONTNEED
 * page_file_fault               write to a private page that is in the swap area only, reading
 *                               that page alone; see paging_in
 * reserve_commit_free_64k       mmap and munmap of 64 KiB
 * reserve_commit_touch_free_64k mmap of 64 KiB, a write to each of its 16 pages, munmap
 * protect_page                  mprotect of a touched page that is a mapping by itself, per call:
 *                               half of the way to read-only and back
 * protect_page_inside           the same for a page in the middle of a mapping, which Linux splits
 *                               in three and joins again
 * decommit_page                 MADV_DONTNEED of one touched page of a private mapping
 * trim_page                     MADV_DONTNEED of a shared mapping of a memory file, where the
 *                               pages stay, divided by its pages
 * page_out_page                 MADV_PAGEOUT of a touched private mapping (unmap its pages, write
 *                               them to the swap area), divided by its pages; see paging_out
 * guard_page_fault              mprotect of a touched page to PROT_NONE, a write to it, and a
 *                               handler of SIGSEGV that opens it again
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    SAMPLES = 1024,
    REGION = SAMPLES,   /* pages that are worked on one by one */
    BATCH = 256,        /* pages that are worked on by one call */
    ROUNDS = 16,        /* such calls */
    ZEROING = PAGE / 8, /* iterations of `rep stosq` for a page */
    CLOSED = PROT_NONE,
    READ_ONLY = PROT_READ,
    READ_WRITE = PROT_READ | PROT_WRITE,
    EXIT_PORT = 0xf4, /* of QEMU's isa-debug-exit */
    GOOD = 0x10,      /* what ntmm's kernel writes there when all is well */
};

static uint64_t samples[ROUNDS * BATCH];
static unsigned count;
static uint64_t overhead;

static inline uint64_t now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static void sample(uint64_t instructions) { samples[count++] = instructions - overhead; }

/* Times `operation` once. */
#define TIME(operation)         \
    do {                        \
        uint64_t begin = now(); \
        operation;              \
        sample(now() - begin);  \
    } while (0)

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The median of the samples, which are forgotten. */
static uint64_t median(void)
{
    qsort(samples, count, sizeof *samples, compare);
    uint64_t middle = samples[count / 2];
    count = 0;
    return middle;
}

static void report(const char *name, uint64_t instructions)
{
    printf("%s %llu\n", name, (unsigned long long)instructions);
}

static inline long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result = number;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline void getppid_by_interrupt(void)
{
    long result = 64;
    __asm__ volatile("int $0x80" : "+a"(result) : : "r8", "r9", "r10", "r11", "memory");
}

static inline char *map(long pages)
{
    return (char *)call(SYS_mmap, 0, pages * PAGE, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static inline void unmap(char *at, long pages)
{
    call(SYS_munmap, (long)at, pages * PAGE, 0, 0, 0, 0);
}

static inline void protect(char *page, int protection)
{
    call(SYS_mprotect, (long)page, PAGE, protection, 0, 0, 0);
}

static inline void advise(char *at, long pages, int advice)
{
    call(SYS_madvise, (long)at, pages * PAGE, advice, 0, 0, 0);
}

static inline void touch(char *page) { *(volatile char *)page = 1; }

static void touch_all(char *at, long pages)
{
    for (long page = 0; page < pages; page++)
        touch(at + page * PAGE);
}

/* A private mapping between two closed pages, so that Linux cannot join it to another. */
static char *lone_mapping(long pages)
{
    char *at = map(pages + 2);
    protect(at, CLOSED);
    protect(at + (pages + 1) * PAGE, CLOSED);
    advise(at + PAGE, pages, MADV_NOHUGEPAGE);
    return at + PAGE;
}

static void rest(long milliseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, 0);
}

static void system_calls(void)
{
    for (int i = 0; i < SAMPLES; i++)
        TIME(call(SYS_getppid, 0, 0, 0, 0, 0, 0));
    report("null_system_call", median());
    for (int i = 0; i < SAMPLES; i++)
        TIME(getppid_by_interrupt());
    report("null_system_call_interrupt", median());
}

static void protect_and_back(const char *name, char *page)
{
    for (int i = 0; i < SAMPLES; i++)
        TIME(protect(page, READ_ONLY); protect(page, READ_WRITE));
    report(name, median() / 2);
}

static void private_pages(void)
{
    char *region = lone_mapping(REGION);
    for (int i = 0; i < REGION; i++)
        TIME(touch(region + i * PAGE));
    uint64_t fault = median();
    report("demand_zero_fault", fault);
    report("demand_zero_fault_zeroed", fault - ZEROING);
    protect_and_back("protect_page_inside", region + REGION / 2 * PAGE);
    for (int i = 0; i < REGION; i++)
        TIME(advise(region + i * PAGE, 1, MADV_DONTNEED));
    report("decommit_page", median());

    char *page = lone_mapping(1);
    touch(page);
    protect_and_back("protect_page", page);
}

static void regions(void)
{
    for (int i = 0; i < SAMPLES; i++)
        TIME(unmap(map(16), 16));
    report("reserve_commit_free_64k", median());
    for (int i = 0; i < SAMPLES; i++)
        TIME(char *region = map(16); touch_all(region, 16); unmap(region, 16));
    report("reserve_commit_touch_free_64k", median());
}

static void shared_pages(void)
{
    int file = memfd_create("shared", 0);
    if (file < 0 || ftruncate(file, BATCH * PAGE)) {
        puts("# no memory file");
        return;
    }
    char *region = mmap(0, BATCH * PAGE, READ_WRITE, MAP_SHARED, file, 0);
    touch_all(region, BATCH);
    uint64_t trims[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        TIME(advise(region, BATCH, MADV_DONTNEED));
        trims[round] = samples[--count];
        for (int i = 0; i < BATCH; i++)
            TIME(touch(region + i * PAGE));
    }
    report("transition_fault", median());
    for (int round = 0; round < ROUNDS; round++)
        samples[count++] = trims[round];
    report("trim_page", median() / BATCH);
}

static void write_text(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, text, strlen(text)) < 0)
        printf("# cannot write %s\n", path);
    close(file);
}

static char *guarded;

static void open_guarded(int signal)
{
    (void)signal;
    protect(guarded, READ_WRITE);
}

static void exceptions(void)
{
    /* Linux logs the signals that would kill the first process, even those it handles. */
    write_text("/proc/sys/debug/exception-trace", "0");
    signal(SIGSEGV, open_guarded);
    guarded = lone_mapping(1);
    touch(guarded);
    for (int i = 0; i < SAMPLES; i++)
        TIME(protect(guarded, CLOSED); touch(guarded));
    report("guard_page_fault", median());
}

static int load_module(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/%s.ko", name);
    int file = open(path, O_RDONLY);
    return file < 0 || syscall(SYS_finit_module, file, "", 0) ? -1 : 0;
}

/* Makes a disk the swap area; the page written is that of mkswap(8). */
static int swap_on(const char *device)
{
    static union {
        char bytes[PAGE];
        uint32_t words[PAGE / 4];
    } header;
    int file = open(device, O_RDWR);
    if (file < 0)
        return -1;
    header.words[256] = 1; /* version; then the last page */
    header.words[257] = lseek(file, 0, SEEK_END) / PAGE - 1;
    memcpy(header.bytes + PAGE - 10, "SWAPSPACE2", 10);
    int written = pwrite(file, &header, PAGE, 0) == PAGE && !fsync(file);
    close(file);
    return written ? swapon(device, 0) : -1;
}

/*
 * The swap area is a RAM disk here, which has copied a page when it is asked to. With a virtio disk
 * the figure is up to a tenth less and different from run to run: the work depends on how many
 * writes the disk has ended whenever it interrupts.
 */
static void paging_out(void)
{
    static const char disk[] = "/dev/ram0";
    if (load_module("brd") || swap_on(disk)) {
        puts("# no RAM disk");
        return;
    }
    char *region = lone_mapping(BATCH);
    for (int round = 0; round < ROUNDS; round++) {
        touch_all(region, BATCH);
        TIME(advise(region, BATCH, MADV_PAGEOUT));
    }
    report("page_out_page", median() / BATCH);
    unmap(region, BATCH);
    swapoff(disk);
}

/*
 * A thread of the idle class runs when nothing else has anything to do, and counts its own
 * instructions. So the processor never halts, and elapsed less idle instructions are work, the
 * ways to another thread and back included.
 */
static volatile uint64_t idle;

static int be_idle(void *argument)
{
    sched_setscheduler(0, SCHED_IDLE, argument);
    __asm__ volatile("1: addq $2, %0\n\tjmp 1b" : "+m"(idle));
    return 0;
}

/* Times the work of `operation` once. */
#define TIME_WORK(operation)                     \
    do {                                         \
        uint64_t waited = idle, begin = now();   \
        operation;                               \
        sample(now() - begin - (idle - waited)); \
    } while (0)

static int prepare_disk(void)
{
    static const char *const modules[] = {"virtio_ring", "virtio", "virtio_pci_modern_dev",
                                          "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"};
    for (unsigned i = 0; i < sizeof modules / sizeof *modules; i++)
        if (load_module(modules[i]))
            return -1;
    return swap_on("/dev/vda");
}

static int start_idle_thread(void)
{
    static char stack[PAGE] __attribute__((aligned(16)));
    static struct sched_param none;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    return clone(be_idle, stack + sizeof stack, flags, &none);
}

/*
 * Has pages written and taken out of memory. The first MADV_PAGEOUT writes them; read again they
 * are what is on the disk, so that the second one drops them.
 */
static void page_out(char *at, long pages)
{
    advise(at, pages, MADV_PAGEOUT);
    rest(50);
    for (long page = 0; page < pages; page++)
        (void)*(volatile char *)(at + page * PAGE);
    advise(at, pages, MADV_PAGEOUT);
}

static long hard_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_majflt;
}

/*
 * The swap area is a virtio disk, as the paging file of ntmm's kernel is. It interrupts when it
 * likes, so the figures spread by a percent and the median by a few instructions; what is below
 * 500 is cut off.
 */
static void paging_in(void)
{
    if (prepare_disk() || start_idle_thread() < 0) {
        puts("# no disk");
        return;
    }
    write_text("/proc/sys/vm/page-cluster", "0");
    char *region = lone_mapping(BATCH);
    for (int round = 0; round < SAMPLES / BATCH; round++) {
        touch_all(region, BATCH);
        page_out(region, BATCH);
        for (int i = 0; i < BATCH; i++) {
            long before = hard_faults();
            TIME_WORK(touch(region + i * PAGE));
            if (hard_faults() == before)
                count--;
        }
    }
    if (count)
        report("page_file_fault", median() / 500 * 500);
    else
        puts("# no hard faults");
}

int main(void)
{
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    mount("proc", "/proc", "proc", 0, 0);

    /* The console must not interrupt: output waits for the end, and the start for the kernel's. */
    static char output[8192];
    setvbuf(stdout, output, _IOFBF, sizeof output);
    rest(500);

    for (int i = 0; i < SAMPLES; i++)
        TIME();
    overhead = median();

    system_calls();
    private_pages();
    regions();
    shared_pages();
    exceptions();
    paging_out();
    paging_in();

    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    if (!iopl(3))
        outb(GOOD, EXIT_PORT);
    return 1;
}
