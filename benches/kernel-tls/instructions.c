/* Counts the instructions of each emulated CPU, those of user space and those of the kernel apart, into a file that the
 * host reads meanwhile: a plugin for QEMU's emulation (docs/devel/tcg-plugins.rst there), `-plugin file.so,out=FILE`.
 * FILE holds two numbers of 64 bits for each of the first CPUS_MAX CPUs: user, kernel. x86-64 guests only. Debian has
 * no package with QEMU's header for plugins, so what is used of it is declared here. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
enum { CPUS_MAX = 8 };

struct qemu_plugin_tb;
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t, struct qemu_plugin_tb *));
/* Flags 0: the callback reads no registers. */
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*callback)(unsigned, void *), int flags,
                                                 void *data);

API int qemu_plugin_version = VERSION;

static uint64_t (*counts)[2];

static void executed(unsigned cpu, void *data) {
    uintptr_t what = (uintptr_t)data;
    if (cpu < CPUS_MAX)
        counts[cpu][what & 1] += what >> 1;
}

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
    uintptr_t in_kernel = qemu_plugin_tb_vaddr(block) >> 63;
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(qemu_plugin_tb_n_insns(block) << 1 | in_kernel));
}

API int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    size_t bytes = CPUS_MAX * sizeof *counts;
    (void)info;
    for (int i = 0; i < argc; i++) {
        int file = strncmp(argv[i], "out=", 4) ? -1 : open(argv[i] + 4, O_RDWR | O_CREAT | O_TRUNC, 0666);
        if (file < 0 || ftruncate(file, bytes))
            continue;
        counts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (!counts || counts == MAP_FAILED)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
