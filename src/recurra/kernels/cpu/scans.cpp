// The elementwise scans for one instruction set; compiled once for each, beside kernels.cpp.
#include "../elementwise_scan/cpu.h"

namespace RECURRA_ISA {

bool run_scan(bool backward, bool double_precision, const ScanCall& call) {
  return double_precision ? elementwise_scan<double>(backward, call) : elementwise_scan<float>(backward, call);
}

}  // namespace RECURRA_ISA
