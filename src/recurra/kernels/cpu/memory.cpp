// Memory for the kernels: blocks that are kept between calls.
#ifdef __linux__
#include <sys/mman.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#include "call.h"
#include "module.h"

namespace recurra {

namespace {

constexpr size_t always_kept = size_t{128} << 20;
constexpr size_t huge_page = size_t{2} << 20;

// Blocks of memory between calls, the latest given last. To have fresh pages cleared takes as long as half of a training step
// of large batches; so as much may be kept as was in use at one time, and `always_kept` at least.
struct Kept {
  std::mutex lock;
  std::vector<std::pair<size_t, void*>> blocks;
  size_t bytes = 0, used = 0, most_used = 0;

  // Takes out the oldest blocks until those that are in use and those that are kept are no more than there may be.
  std::vector<void*> surplus() {
    std::vector<void*> old;
    while (bytes > always_kept && bytes + used > most_used) {
      old.push_back(blocks.front().second);
      bytes -= blocks.front().first;
      blocks.erase(blocks.begin());
    }
    return old;
  }
};

Kept& kept() {
  static Kept* all = new Kept;  // never destroyed: a thread may still give memory back while the interpreter ends
  return *all;
}

// Sizes in few classes, so that calls of different shapes find each other's blocks.
size_t rounded(size_t bytes) {
  size_t step = 64;
  while (step * 2 < bytes) step *= 2;
  return std::max<size_t>(64, (bytes + step - 1) / step * step);
}

}  // namespace

#ifdef __SANITIZE_ADDRESS__
// Nothing rounded and nothing kept, so that AddressSanitizer knows where a block ends and who had it last.
void* take(size_t bytes) {
  void* fresh = nullptr;
  return posix_memalign(&fresh, 64, bytes) ? nullptr : fresh;
}

void give(void* memory, size_t) { std::free(memory); }
#else
void* take(size_t bytes) {
  bytes = rounded(bytes);
  std::vector<void*> old;
  {
    Kept& all = kept();
    const std::lock_guard<std::mutex> guard(all.lock);
    all.used += bytes;
    for (size_t i = all.blocks.size(); i-- > 0;)
      if (all.blocks[i].first == bytes) {
        void* found = all.blocks[i].second;
        all.blocks.erase(all.blocks.begin() + static_cast<ptrdiff_t>(i));
        all.bytes -= bytes;
        all.most_used = std::max(all.most_used, all.used);
        return found;
      }
    old = all.surplus();
  }
  for (void* each : old) std::free(each);
  void* fresh = std::aligned_alloc(bytes >= huge_page ? huge_page : 64, bytes >= huge_page ? (bytes + huge_page - 1) / huge_page * huge_page : bytes);
  {
    Kept& all = kept();
    const std::lock_guard<std::mutex> guard(all.lock);
    if (fresh)
      all.most_used = std::max(all.most_used, all.used);
    else
      all.used -= bytes;
  }
#ifdef MADV_HUGEPAGE
  if (fresh && bytes >= huge_page) madvise(fresh, bytes, MADV_HUGEPAGE);  // only advice: it may fail
#endif
  return fresh;
}

void give(void* memory, size_t bytes) {
  if (!memory) return;
  bytes = rounded(bytes);
  std::vector<void*> old;
  {
    Kept& all = kept();
    const std::lock_guard<std::mutex> guard(all.lock);
    all.used -= bytes;
    all.blocks.emplace_back(bytes, memory);
    all.bytes += bytes;
    old = all.surplus();
  }
  for (void* each : old) std::free(each);
}
#endif

void keep_memory_over_forks() {
#if !defined(_WIN32)
  pthread_atfork([] { kept().lock.lock(); }, [] { kept().lock.unlock(); }, [] { kept().lock.unlock(); });
#endif
}

}  // namespace recurra
