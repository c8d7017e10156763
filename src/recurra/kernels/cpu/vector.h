// Vectors of numbers for one instruction set, and the elementary functions that gates need.
//
// This header and all that include it are compiled once an instruction set, each time inside another namespace
// (RECURRA_ISA), so that nothing compiled for a newer processor is ever linked into code for an older one. For the same
// reason no container or algorithm of the standard library is used here: its templates would be shared between the sets.
//
// Contraction of a * b + c is off; `fma` says where it is wanted. So a value does not depend on where it is inlined, and
// results are the same for every division of the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef RECURRA_ISA
#error "RECURRA_ISA names the namespace of the instruction set"
#endif

#define RECURRA_INLINE inline __attribute__((always_inline))

namespace RECURRA_ISA {

using std::ptrdiff_t;

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16;
constexpr int registers = 32;
#else
constexpr int vector_bytes = 16;
constexpr int registers = 16;
#endif

template <class T>
struct Traits;
template <>
struct Traits<float> {
  typedef float Vector __attribute__((vector_size(vector_bytes)));
  typedef int32_t Bits __attribute__((vector_size(vector_bytes)));
};
template <>
struct Traits<double> {
  typedef double Vector __attribute__((vector_size(vector_bytes)));
  typedef int64_t Bits __attribute__((vector_size(vector_bytes)));
};

template <class T>
using Vector = typename Traits<T>::Vector;
template <class T>
using Bits = typename Traits<T>::Bits;

// A number in 16 bits (IEEE 754 binary16): half as much to read, and widened exactly when it is read.
struct Half {
  uint16_t bits;
};

// What a stored number is computed with.
template <class Stored>
struct Widened {
  using Type = Stored;
};
template <>
struct Widened<Half> {
  using Type = float;
};
template <class Stored>
using Wide = typename Widened<Stored>::Type;

// Numbers in a vector.
template <class T>
constexpr int width = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
RECURRA_INLINE Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class T>
RECURRA_INLINE void store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof(v));
}

// To the nearest, of two equally near the even one. Finite numbers up to 65,504, the largest.
RECURRA_INLINE Half half_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits >= 0x38800000) {
    bits += 0xfff + (bits >> 13 & 1);
    return {static_cast<uint16_t>(sign | (bits - 0x38000000) >> 13)};
  }
  // Under 2^-14 they are multiples of 2^-24, the distance of numbers next to 0.5.
  float rounded;
  std::memcpy(&rounded, &bits, sizeof(bits));
  rounded += 0.5f;
  std::memcpy(&bits, &rounded, sizeof(bits));
  return {static_cast<uint16_t>(sign | (bits - 0x3f000000))};
}

RECURRA_INLINE void store(Half* to, Vector<float> v) {
  for (int i = 0; i < width<float>; ++i) to[i] = half_of(v[i]);
}

RECURRA_INLINE Vector<float> load(const Half* from) {
#if defined(__AVX512F__)
  __m256i bits;
  std::memcpy(&bits, from, sizeof(bits));
  return (Vector<float>)_mm512_cvtph_ps(bits);
#elif defined(__F16C__)
  __m128i bits;
  std::memcpy(&bits, from, sizeof(bits));
  return (Vector<float>)_mm256_cvtph_ps(bits);
#elif defined(__aarch64__)
  float16x4_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return (Vector<float>)vcvt_f32_f16(bits);
#else
  Bits<float> bits;
  for (int i = 0; i < width<float>; ++i) bits[i] = from[i].bits;
  const Bits<float> sign = (bits & 0x8000) << 16;
  bits &= 0x7fff;
  const Vector<float> usual = (Vector<float>)((bits << 13) + 0x38000000), small = __builtin_convertvector(bits, Vector<float>) * 0x1p-24f;
  const Vector<float> value = bits < 0x400 ? small : usual;
  return (Vector<float>)((Bits<float>)value | sign);
#endif
}

// Which numbers of a vector are among the first `count`, from none to all but one.
RECURRA_INLINE unsigned mask_of(int count) { return (1u << count) - 1; }

#if defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__)
RECURRA_INLINE Vector<float> load_some(const float* from, int count) {
  return (Vector<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask_of(count)), from);
}
RECURRA_INLINE Vector<double> load_some(const double* from, int count) {
  return (Vector<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask_of(count)), from);
}
RECURRA_INLINE void store_some(float* to, Vector<float> v, int count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask_of(count)), (__m512)v);
}
RECURRA_INLINE void store_some(double* to, Vector<double> v, int count) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask_of(count)), (__m512d)v);
}
#elif defined(__SANITIZE_ADDRESS__)
// Number by number, which AddressSanitizer sees.
template <class T>
RECURRA_INLINE Vector<T> load_some(const T* from, int count) {
  Vector<T> v{};
  for (int i = 0; i < width<T>; ++i)
    if (mask_of(count) >> i & 1) v[i] = from[i];
  return v;
}
template <class T>
RECURRA_INLINE void store_some(T* to, Vector<T> v, int count) {
  for (int i = 0; i < width<T>; ++i)
    if (mask_of(count) >> i & 1) to[i] = v[i];
}
#else
template <class T>
RECURRA_INLINE Vector<T> load_some(const T* from, int count) {
  Vector<T> v{};
  for (int i = 0; i < width<T>; ++i)
    if (i < count) v[i] = from[i];
  return v;
}
template <class T>
RECURRA_INLINE void store_some(T* to, Vector<T> v, int count) {
  for (int i = 0; i < width<T>; ++i)
    if (i < count) to[i] = v[i];
}
#endif

// The first `count` numbers (more than a vector holds: all of it), zeros behind them.
template <class T>
RECURRA_INLINE Vector<T> load(const T* from, int count) {
  return count >= width<T> ? load(from) : load_some(from, count);
}

template <class T>
RECURRA_INLINE void store(T* to, Vector<T> v, int count) {
  count >= width<T> ? store(to, v) : store_some(to, v, count);
}

template <class T>
RECURRA_INLINE Vector<T> fill(T value) {
  return value - Vector<T>{};  // less zero changes no number, not even the sign of a zero, and costs nothing
}

template <class T, int apart, int... lane>
RECURRA_INLINE void exchange(Vector<T>& a, Vector<T>& b, std::integer_sequence<int, lane...>) {
  constexpr int W = width<T>;
  const Vector<T> old = a;
  a = __builtin_shuffle(a, b, Bits<T>{(lane & apart ? W + lane - apart : lane)...});
  b = __builtin_shuffle(old, b, Bits<T>{(lane & apart ? W + lane : lane + apart)...});
}

// Rows of a square become its columns: pairs of rows exchange halves, at half the distance each time.
template <class T, int apart = width<T> / 2>
RECURRA_INLINE void transpose(Vector<T> (&square)[width<T>]) {
#pragma GCC unroll 16
  for (int row = 0; row < width<T>; ++row)
    if (!(row & apart)) exchange<T, apart>(square[row], square[row + apart], std::make_integer_sequence<int, width<T>>{});
  if constexpr (apart > 1) transpose<T, apart / 2>(square);
}

// a * b + c, rounded once where the instruction set can.
RECURRA_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Vector<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

RECURRA_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
#if defined(__AVX512F__)
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__)
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
  return (Vector<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

// x held between -limit and limit; NaN stays NaN.
RECURRA_INLINE Vector<float> clamp(Vector<float> x, float limit) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_max_ps((__m512)fill(-limit), _mm512_min_ps((__m512)fill(limit), (__m512)x));
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_max_ps((__m256)fill(-limit), _mm256_min_ps((__m256)fill(limit), (__m256)x));
#else
  x = x > fill(limit) ? fill(limit) : x;
  return x < fill(-limit) ? fill(-limit) : x;
#endif
}
RECURRA_INLINE Vector<double> clamp(Vector<double> x, double limit) {
  x = x > fill(limit) ? fill(limit) : x;
  return x < fill(-limit) ? fill(-limit) : x;
}

// 1 / x. On AVX-512, where a division of a whole register is slow, one step of Newton's method from 14 bits.
RECURRA_INLINE Vector<float> reciprocal(Vector<float> x) {
#if defined(__AVX512F__)
  const Vector<float> start = (Vector<float>)_mm512_rcp14_ps((__m512)x);
  return fma(fma(-x, start, fill(1.0f)), start, start);
#else
  return 1.0f / x;
#endif
}
RECURRA_INLINE Vector<double> reciprocal(Vector<double> x) { return 1.0 / x; }

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2.
template <class T>
struct Exponent;

template <>
struct Exponent<float> {
  static constexpr float log2e = 1.44269504088896341f, ln2_high = 0.693359375f, ln2_low = -2.12194440054690583e-4f;
  static constexpr float rounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  static constexpr int mantissa = 23;
  static constexpr int32_t one = 0x3f800000;
  static constexpr float limit = 87.0f;
  // exp(r) - 1 = r + r^2 series(r), within 2e-8 of it, in pairs of terms, which wait less for each other than one after another.
  static RECURRA_INLINE Vector<float> series(Vector<float> r) {
    const Vector<float> square = r * r, low = fma(fill(0.16666543f), r, fill(0.49999997f)), high = fma(fill(8.3665205e-3f), r, fill(0.0416672f));
    return fma(fma(fill(1.3882521e-3f), square, high), square, low);
  }
};

template <>
struct Exponent<double> {
  static constexpr double log2e = 1.44269504088896340736, ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
  static constexpr double rounder = 6755399441055744.0;
  static constexpr int mantissa = 52;
  static constexpr int64_t one = 0x3ff0000000000000;
  static constexpr double limit = 700.0;
  static RECURRA_INLINE Vector<double> series(Vector<double> r) {  // by Taylor, whose next term is 4e-18
    Vector<double> p = fill(1.0 / 6227020800.0);
    p = fma(p, r, fill(1.0 / 479001600.0));
    p = fma(p, r, fill(1.0 / 39916800.0));
    p = fma(p, r, fill(1.0 / 3628800.0));
    p = fma(p, r, fill(1.0 / 362880.0));
    p = fma(p, r, fill(1.0 / 40320.0));
    p = fma(p, r, fill(1.0 / 5040.0));
    p = fma(p, r, fill(1.0 / 720.0));
    p = fma(p, r, fill(1.0 / 120.0));
    p = fma(p, r, fill(1.0 / 24.0));
    p = fma(p, r, fill(1.0 / 6.0));
    return fma(p, r, fill(0.5));
  }
};

template <class T>
struct Parts {
  Vector<T> scale, fraction;  // 2^n and exp(r) - 1
};

// Of sign * x, with |x| within the limit.
template <class T>
RECURRA_INLINE Parts<T> exponential_parts(Vector<T> x, T sign) {
  using E = Exponent<T>;
  const Vector<T> shifted = fma(x, fill(sign * E::log2e), fill(E::rounder));
  const Vector<T> n = shifted - E::rounder;
  Vector<T> r = fma(n, fill(-E::ln2_high), sign * x);
  r = fma(n, fill(-E::ln2_low), r);
  const Bits<T> bits = ((Bits<T>)shifted << E::mantissa) + E::one;
  return {(Vector<T>)bits, fma(E::series(r), r * r, r)};
}

// Beyond the limit it stands still.
template <class T>
RECURRA_INLINE Vector<T> exponential(Vector<T> x) {
  const Parts<T> e = exponential_parts<T>(clamp(x, Exponent<T>::limit), T(1));
  return fma(e.scale, e.fraction, e.scale);
}

// Bytes as whole numbers. (GCC would widen them one by one.)
template <class T>
RECURRA_INLINE Bits<T> widen(const uint8_t* from) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float))
    return (Bits<T>)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  else
    return (Bits<T>)_mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == sizeof(float)) {
    return (Bits<T>)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  } else {
    int32_t four;
    std::memcpy(&four, from, sizeof(four));
    return (Bits<T>)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
  }
#else
  Bits<T> wide;
  for (int i = 0; i < width<T>; ++i) wide[i] = from[i];
  return wide;
#endif
}

// Ones where bytes are other than zero, of the first `count` (more than a vector holds: of all), and zeros.
template <class T>
RECURRA_INLINE Vector<T> load_marks(const uint8_t* from, int count) {
  uint8_t some[width<T>] = {};
  if (count < width<T>) {
    for (int i = 0; i < count; ++i) some[i] = from[i];
    from = some;
  }
  return (Vector<T>)((widen<T>(from) != 0) & Exponent<T>::one);
}

// 1 + exp(-x), with |x| within the limit.
//
// Where exp(-x) is large its error hardly moves 1 / (1 + exp(-x)), and where it is small it is nothing beside one: so float32 takes
// 2^n 2^r, |r| <= 1/2, of one rounded product, with 2^r to 9e-8 by the polynomial of least largest error.
RECURRA_INLINE Vector<float> one_and_exponential_of_minus(Vector<float> x) {
  using E = Exponent<float>;
  const Vector<float> factor = fill(-E::log2e), shifted = fma(x, factor, fill(E::rounder)), r = fma(x, factor, E::rounder - shifted);
  const Vector<float> square = r * r, low = fma(fill(0.24022242f), r, fill(0.693147f)), high = fma(fill(1.3264726e-3f), r, fill(9.671513e-3f));
  const Vector<float> power = fma(fma(fma(high, r, fill(0.055507336f)), square, low), r, fill(1.0f));
  return fma((Vector<float>)(((Bits<float>)shifted << E::mantissa) + E::one), power, fill(1.0f));
}
RECURRA_INLINE Vector<double> one_and_exponential_of_minus(Vector<double> x) {
  const Parts<double> e = exponential_parts<double>(x, -1.0);
  return fma(e.scale, e.fraction, e.scale + 1.0);
}

// 1 / (1 + exp(-x)); beyond the limit it stands still.
template <class T>
RECURRA_INLINE Vector<T> sigmoid(Vector<T> x) {
  return reciprocal(one_and_exponential_of_minus(clamp(x, Exponent<T>::limit)));
}

// tanh(x) = e / (e + 2) with e = exp(2 x) - 1, which keeps its digits near zero. Beyond 20 it is 1 to the last bit.
template <class T>
RECURRA_INLINE Vector<T> hyperbolic_tangent(Vector<T> x) {
  const Parts<T> e = exponential_parts<T>(clamp(x, T(20)), T(2));
  const Vector<T> less_one = fma(e.scale, e.fraction, e.scale - T(1));
  return less_one * reciprocal(less_one + T(2));
}

}  // namespace RECURRA_ISA
