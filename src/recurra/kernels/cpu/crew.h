// Threads that help with many very short pieces of work, one after the other.
//
// OpenMP's threads meet at a barrier after each piece: on a machine that does something else as well, everyone waits for
// the one that is not running (measured, LSTM of 512 units, two threads beside three other processes: 23 ms a step, where
// one thread takes 0.26 ms). Here the caller waits for nobody who has not begun: pieces are taken one by one, and the caller
// takes those of a helper that is not there. Helpers wait busily for a fifth of a millisecond, then they sleep.
#pragma once

namespace recurra {

class Crew {
 public:
  virtual ~Crew() = default;
  // work(context, i) for every i from 0 to items - 1, of which each thread has the same share every time, as long as it
  // comes in time. It goes through them in order, or from the last to the first.
  virtual void run(int items, bool backwards, void (*work)(void* context, int item), void* context) = 0;
};

// The caller and up to threads - 1 helpers, until `dismiss`; null when somebody else has them.
Crew* hire(int threads);
void dismiss(Crew* crew);

}  // namespace recurra
