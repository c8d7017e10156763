// The threads of crew.h.
#include "crew.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#include "denormals.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace recurra {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int most_threads = 64;
constexpr auto patience = std::chrono::microseconds(200);

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The items of one thread that nobody has taken: it takes them in front, others behind. In one word with the counts stand
// their limit and the number of the job, so that one who comes late takes nothing that is done or of another job.
class alignas(64) Share {
 public:
  static constexpr int most_items = 0xfff;

  void fill(uint32_t job, int items) { word_.store(tag(job) | static_cast<uint64_t>(items), std::memory_order_relaxed); }
  // Position of the item taken, or -1 when there is none left.
  int take(uint32_t job, bool in_front) {
    uint64_t word = word_.load(std::memory_order_acquire);
    for (;;) {
      const int items = word & 0xfff, front = word >> 12 & 0xfff, behind = word >> 24 & 0xfff;
      if (word >> 36 != tag(job) >> 36 || front + behind >= items) return -1;
      if (word_.compare_exchange_weak(word, word + (uint64_t{1} << (in_front ? 12 : 24)), std::memory_order_acq_rel))
        return in_front ? front : items - 1 - behind;
    }
  }

 private:
  static uint64_t tag(uint32_t job) { return static_cast<uint64_t>(job) << 36; }
  std::atomic<uint64_t> word_{0};
};

class Helpers final : public Crew {
 public:
  void run(int items, bool backwards, void (*work)(void*, int), void* context) override {
    const int threads = threads_.load(std::memory_order_relaxed);
    if (items < 2 || items > threads * Share::most_items) {
      for (int i = 0; i < items; ++i) work(context, backwards ? items - 1 - i : i);
      return;
    }
    const uint32_t job = job_.load(std::memory_order_relaxed) + 1;
    items_.store(items, std::memory_order_relaxed);
    backwards_.store(backwards, std::memory_order_relaxed);
    work_.store(work, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    for (int i = 0; i < threads; ++i) shares_[i].fill(job, items * (i + 1) / threads - items * i / threads);
    job_.store(job, std::memory_order_release);
    take_items(0, job);
    // Only who is in the middle of an item is waited for; where it has lost its core, it may have this one.
    for (int turns = 0; done_.load(std::memory_order_acquire) < items; ++turns) turns < 500 ? relax() : std::this_thread::yield();
  }

  bool hire(int threads) {
    if (hired_.exchange(true, std::memory_order_acquire)) return false;
    threads_.store(std::min(threads, most_threads), std::memory_order_relaxed);
    try {
      for (; helpers_ < threads_ - 1; ++helpers_) {
        std::thread helper(&Helpers::help, this, helpers_ + 1);
        handles_[helpers_] = helper.native_handle();
        helper.detach();
      }
    } catch (const std::system_error&) {  // no more threads can be had
    }
    calls_.fetch_add(1);
    if (asleep_.load()) {
      keep_away();
      const std::lock_guard<std::mutex> guard(lock_);
      wake_.notify_all();
    }
    return true;
  }

  void dismiss() { hired_.store(false, std::memory_order_release); }

 private:
  // Whom the kernel wakes it likes to put where it slept last, or beside the waker, and if that is the caller's own core the
  // helper waits there for milliseconds. So its cores are those of the caller but the one where the caller is.
  void keep_away() {
#if defined(__linux__)
    const int here = sched_getcpu();
    cpu_set_t cores;
    if (here < 0 || sched_getaffinity(0, sizeof(cores), &cores) != 0) return;
    CPU_CLR(here, &cores);
    if (CPU_COUNT(&cores) == 0) return;
    for (int i = 0; i < helpers_; ++i) pthread_setaffinity_np(handles_[i], sizeof(cores), &cores);
#endif
  }

  // What is read of a job here holds when an item of it can be taken afterwards: until that is done the next job waits.
  void take_items(int mine, uint32_t job) {
    const int threads = threads_.load(std::memory_order_relaxed), items = items_.load(std::memory_order_relaxed);
    const bool backwards = backwards_.load(std::memory_order_relaxed);
    const auto work = work_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    for (int turn = 0; turn < threads; ++turn) {
      const int owner = (mine + turn) % threads, first = items * owner / threads, last = items * (owner + 1) / threads;
      for (int at; (at = shares_[owner].take(job, turn == 0)) >= 0;) {
        work(context, backwards ? last - 1 - at : first + at);
        done_.fetch_add(1, std::memory_order_release);
      }
    }
  }

  void help(int mine) {
    const DenormalsAreZero mode;
    uint32_t seen = 0;
    for (;;) {
      auto since = Clock::now();
      uint32_t calls = calls_.load();
      for (int turns = 1; job_.load(std::memory_order_acquire) == seen; ++turns) {
        relax();
        if (turns % 64) continue;
        std::this_thread::yield();  // where there are fewer cores than threads, the caller may need this one
        if (Clock::now() - since < patience) continue;
        sleep(calls);
        since = Clock::now(), calls = calls_.load();
      }
      seen = job_.load(std::memory_order_acquire);
      if (mine < threads_.load(std::memory_order_relaxed)) take_items(mine, seen);
    }
  }

  void sleep(uint32_t calls) {
    std::unique_lock<std::mutex> guard(lock_);
    asleep_.fetch_add(1);
    wake_.wait(guard, [&] { return calls_.load() != calls; });
    asleep_.fetch_sub(1);
  }

  std::atomic<bool> hired_{false};
  std::atomic<int> threads_{1}, asleep_{0};
  std::atomic<uint32_t> calls_{0};
  int helpers_ = 0;
  std::thread::native_handle_type handles_[most_threads]{};
  std::mutex lock_;
  std::condition_variable wake_;

  std::atomic<int> items_{0};
  std::atomic<bool> backwards_{false};
  std::atomic<void (*)(void*, int)> work_{nullptr};
  std::atomic<void*> context_{nullptr};
  alignas(64) std::atomic<uint32_t> job_{0};
  alignas(64) std::atomic<int> done_{0};
  Share shares_[most_threads];
};

// Never destroyed: helpers run until the process ends. A forked process has no helpers and starts its own.
Helpers*& helpers() {
  static Helpers* all = [] {
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, [] { helpers() = new Helpers; });
#endif
    return new Helpers;
  }();
  return all;
}

}  // namespace

Crew* hire(int threads) {
  if (threads < 2) return nullptr;
  Helpers* const all = helpers();
  return all->hire(threads) ? all : nullptr;
}

void dismiss(Crew* crew) {
  if (crew) static_cast<Helpers*>(crew)->dismiss();
}

}  // namespace recurra
