// SPDX-License-Identifier: GPL-2.0
/* Stands in for Onload's driver: it has a parameter, and needs sfc_char. */
#include <linux/init.h>
#include <linux/module.h>

extern int test_sfc_char_calls;

static int max_packets_per_stack = 32768;
module_param(max_packets_per_stack, int, 0444);
MODULE_PARM_DESC(max_packets_per_stack, "does nothing");

static int __init onload_init(void)
{
	test_sfc_char_calls++;
	return 0;
}

static void __exit onload_exit(void)
{
}

module_init(onload_init);
module_exit(onload_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stand-in for tests");
MODULE_VERSION("1.0");
