/* Calls the static library from a program without a Rust runtime and prints its checksum. */
#include <stdint.h>
#include <stdio.h>

extern uint32_t tier0_checksum(void);

/* The prebuilt core names this in its unwind tables; the library aborts instead of unwinding, so it is never called. */
void rust_eh_personality(void) {}

int main(void)
{
    printf("%08x\n", (unsigned)tier0_checksum());
    return 0;
}
