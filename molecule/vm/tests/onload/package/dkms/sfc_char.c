// SPDX-License-Identifier: GPL-2.0
/* Stands in for Onload's sfc_char: something for another module to stand on. */
#include <linux/init.h>
#include <linux/module.h>

int test_sfc_char_calls;
EXPORT_SYMBOL_GPL(test_sfc_char_calls);

static int __init sfc_char_init(void)
{
	return 0;
}

static void __exit sfc_char_exit(void)
{
}

module_init(sfc_char_init);
module_exit(sfc_char_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stand-in for tests");
MODULE_VERSION("1.0");
