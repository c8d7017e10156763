// What the sources of the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "call.h"

namespace recurra {

// The kernels of the instruction set in use.
const Kernels& chosen_kernels();

// Throws for a name that is none.
Operation operation_of(const std::string& name);

// The class `Stepper`; see stepper.cpp.
void define_stepper(nanobind::module_& module);

}  // namespace recurra
