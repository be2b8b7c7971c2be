#pragma once

#include <memory>

namespace blobcache::page {

/// The disk reads of one thread, which hands them to the kernel and takes them back by itself. For
/// a thread that serves a client and sleeps on descriptors when there is nothing to do: for each
/// batch of reads two wake-ups of threads are saved, the store's and its own.
///
/// While a Scope exists, reads that its thread asks for are made here, and those that follow from
/// them: a page map's, or another reader's who waited for this one's place. Others may wait for
/// the same pages. So the thread must come back to reap() soon, whatever its client does, and must
/// not wait for a read in any other way.
///
/// Callbacks run in reap() and finish(). For one thread; costs next to nothing before the first
/// read. Where the kernel has no such ring (before Linux 6.1) the store's does it all.
class ThreadRing {
 public:
  ThreadRing();
  ~ThreadRing();  ///< finish()
  ThreadRing(const ThreadRing&) = delete;
  ThreadRing& operator=(const ThreadRing&) = delete;

  /// Scopes of one thread nest. The ring outlives it.
  class Scope {
   public:
    explicit Scope(ThreadRing& ring);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ThreadRing* const before_;
  };

  /// While it exists, its thread's reads are the store's.
  class NoScope {
   public:
    NoScope();
    ~NoScope();
    NoScope(const NoScope&) = delete;
    NoScope& operator=(const NoScope&) = delete;

   private:
    ThreadRing* const before_;
  };

  /// Hands over what was asked for: before the thread sleeps, or does something else for long.
  void submit();
  /// What to sleep on, for reading, until something has come; -1 when nothing is under way.
  [[nodiscard]] int wake_fd() const;
  /// After wake_fd() was readable: makes it unreadable again.
  void woken();
  /// Calls back for what has come.
  void reap();
  /// The same, until nothing is under way.
  void finish();

  class Impl;
  /// Of the thread's innermost scope, or null.
  [[nodiscard]] static Impl* current();

 private:
  const std::unique_ptr<Impl> impl_;
};

}  // namespace blobcache::page
