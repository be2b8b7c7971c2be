// For ThreadSanitizer builds alone. Debian's Abseil is not instrumented, so the sanitizer sees no
// order between an absl::Mutex's unlock and the next lock, and calls every guarded access a race.
// The linker sends the calls below through here (--wrap), where the order is told.
// BLOBCACHE_ABSL_NAMESPACE is Abseil's namespace as it stands in mangled names, for example
// 4absl7debian3.

#include <sanitizer/tsan_interface.h>

extern "C" {

// Of the sanitizer's runtime, in no header that both compilers have.
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define REAL(member) JOIN(__real__ZN, BLOBCACHE_ABSL_NAMESPACE, member)
#define WRAP(member) JOIN(__wrap__ZN, BLOBCACHE_ABSL_NAMESPACE, member)
#define REAL_CONST(member) JOIN(__real__ZNK, BLOBCACHE_ABSL_NAMESPACE, member)
#define WRAP_CONST(member) JOIN(__wrap__ZNK, BLOBCACHE_ABSL_NAMESPACE, member)

// The lock order that Abseil itself keeps, under a lock that the sanitizer does not see.
const char* __tsan_default_suppressions() { return "race:synchronization_internal::GraphCycles\n"; }

// Conditions of other threads are evaluated inside an unlock, after the order was told: not looked
// at.
static void begin_unseen() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
static void end_unseen() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#define WRAP_LOCK(member)          \
  void REAL(member)(void* mutex);  \
  void WRAP(member)(void* mutex) { \
    REAL(member)(mutex);           \
    __tsan_acquire(mutex);         \
  }

#define WRAP_UNLOCK(member)        \
  void REAL(member)(void* mutex);  \
  void WRAP(member)(void* mutex) { \
    __tsan_release(mutex);         \
    begin_unseen();                \
    REAL(member)(mutex);           \
    end_unseen();                  \
  }

WRAP_LOCK(5Mutex4LockEv)
WRAP_LOCK(5Mutex10ReaderLockEv)
bool REAL(5Mutex7TryLockEv)(void* mutex);
bool WRAP(5Mutex7TryLockEv)(void* mutex) {
  const bool held = REAL(5Mutex7TryLockEv)(mutex);
  if (held) __tsan_acquire(mutex);
  return held;
}
WRAP_UNLOCK(5Mutex6UnlockEv)
WRAP_UNLOCK(5Mutex12ReaderUnlockEv)

void REAL(5Mutex5AwaitERKNS0_9ConditionE)(void* mutex, const void* condition);
void WRAP(5Mutex5AwaitERKNS0_9ConditionE)(void* mutex, const void* condition) {
  __tsan_release(mutex);
  begin_unseen();
  REAL(5Mutex5AwaitERKNS0_9ConditionE)(mutex, condition);
  end_unseen();
  __tsan_acquire(mutex);
}

// absl::Duration is 12 bytes, passed in two registers as these are; so is absl::Time, which holds
// one.
struct Duration {
  long high;
  unsigned low;
};

#define WRAP_AWAIT_UNTIL(member)                                        \
  bool REAL(member)(void* mutex, const void* condition, Duration end);  \
  bool WRAP(member)(void* mutex, const void* condition, Duration end) { \
    __tsan_release(mutex);                                              \
    begin_unseen();                                                     \
    const bool held = REAL(member)(mutex, condition, end);              \
    end_unseen();                                                       \
    __tsan_acquire(mutex);                                              \
    return held;                                                        \
  }

WRAP_AWAIT_UNTIL(5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE)
WRAP_AWAIT_UNTIL(5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE)

void REAL(12Notification6NotifyEv)(void* notification);
void WRAP(12Notification6NotifyEv)(void* notification) {
  __tsan_release(notification);
  begin_unseen();
  REAL(12Notification6NotifyEv)(notification);
  end_unseen();
}

void REAL_CONST(12Notification19WaitForNotificationEv)(void* notification);
void WRAP_CONST(12Notification19WaitForNotificationEv)(void* notification) {
  begin_unseen();
  REAL_CONST(12Notification19WaitForNotificationEv)(notification);
  end_unseen();
  __tsan_acquire(notification);
}

bool REAL_CONST(12Notification30WaitForNotificationWithTimeoutENS0_8DurationE)(void*, Duration);
bool WRAP_CONST(12Notification30WaitForNotificationWithTimeoutENS0_8DurationE)(void* notification,
                                                                               Duration timeout) {
  begin_unseen();
  const bool notified = REAL_CONST(12Notification30WaitForNotificationWithTimeoutENS0_8DurationE)(
      notification, timeout);
  end_unseen();
  if (notified) __tsan_acquire(notification);
  return notified;
}

// A Status that several threads share is freed by the last of them, after all that the others did
// with it.
void REAL(6Status15UnrefNonInlinedEm)(unsigned long rep);
void WRAP(6Status15UnrefNonInlinedEm)(unsigned long rep) {
  void* const shared = reinterpret_cast<void*>(rep);
  __tsan_release(shared);
  __tsan_acquire(shared);
  REAL(6Status15UnrefNonInlinedEm)(rep);
}
}
