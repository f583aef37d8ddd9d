/* A plugin for QEMU's user mode (7.2, plugin API 1): how often each translated block of a guest program ran.
 * Writes one line a block: count, address, then the block's instructions as they lie in memory, in hexadecimal.
 * Only the few functions that are used are declared here, so that no header of QEMU's is needed. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { ADD_U64 = 0 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
int qemu_plugin_version = 1;

/* A block that is translated twice is listed twice; who reads the list adds up equal instructions. */
struct block {
    struct block *next;
    uint64_t count, address;
    char *code;
};

static struct block *blocks;
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *path;

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t instructions = qemu_plugin_tb_n_insns(tb), length = 0;
    struct block *block = calloc(1, sizeof *block);
    (void)id;
    block->address = qemu_plugin_tb_vaddr(tb);
    block->code = calloc(instructions * 8 + 1, 1);
    for (size_t i = 0; i < instructions; i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        const uint8_t *bytes = qemu_plugin_insn_data(instruction);
        for (size_t b = 0; b < qemu_plugin_insn_size(instruction); b++)
            length += sprintf(block->code + length, "%02x", bytes[b]);
    }
    pthread_mutex_lock(&blocks_lock);
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&blocks_lock);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->count, 1);
}

static void ended(plugin_id id, void *data)
{
    FILE *file = fopen(path, "w");
    (void)id;
    (void)data;
    for (struct block *block = blocks; file && block; block = block->next)
        if (block->count)
            fprintf(file, "%llu %llx %s\n", (unsigned long long)block->count, (unsigned long long)block->address, block->code);
    if (file)
        fclose(file);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4)) {
        fprintf(stderr, "blocks: expected out=FILE\n");
        return -1;
    }
    path = strdup(argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
