// What the sources of the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <thread>

#include "call.h"

namespace recurra {

// The kernels of the instruction set in use.
const Kernels& chosen_kernels();

// From now on a fork waits until nobody is at the blocks of memory, or its child could never have them.
void keep_memory_over_forks();

// Whether this process was forked from another one.
bool is_forked();

// Runs work that may use OpenMP's threads. Those that a forked process takes for its own stayed with its parent, and to wait
// for them would never end: there the work has a thread of its own, which starts others.
template <class Work>
void run_team(int threads, Work&& work) {
  if (threads > 1 && is_forked())
    std::thread(work).join();
  else
    work();
}

// Throws for a name that is none.
Operation operation_of(const std::string& name);

// The class `Stepper`; see stepper.cpp.
void define_stepper(nanobind::module_& module);

}  // namespace recurra
