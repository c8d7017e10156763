// Numbers below the normal range, which count as zero in all that is computed here.
//
// A gradient that dies on its way back through a long sequence passes through them, and a processor takes up to a hundred
// times as long for each: the way back through an LSTM of 64 units over 336 steps took 12 times as long.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace recurra {

// As long as it lives, in the thread that made it. Nothing of it may be shared between instruction sets: it is always inlined.
class DenormalsAreZero {
 public:
#if defined(__x86_64__) || defined(__i386__)
  // "flush to zero" of results and "denormals are zero" of what is read
  __attribute__((always_inline)) DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  __attribute__((always_inline)) ~DenormalsAreZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  // the bit FZ
  __attribute__((always_inline)) DenormalsAreZero() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | uint64_t{1} << 24));
  }
  __attribute__((always_inline)) ~DenormalsAreZero() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#else
  DenormalsAreZero() {}
  ~DenormalsAreZero() {}
#endif

 public:
  DenormalsAreZero(const DenormalsAreZero&) = delete;
  DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;
};

}  // namespace recurra
