// Which of the bugs that test_emulated_kernels.py planted in the patched kernels is active; 0: none.
#pragma once

inline int planted_bug = 0;
