# ThreadSanitizer and an Abseil that is not instrumented: see tsan_abseil.cc.

get_target_property(ABSL_SYNC absl::synchronization IMPORTED_LOCATION_NONE)
if(NOT ABSL_SYNC)
  get_target_property(ABSL_SYNC absl::synchronization LOCATION)
endif()
execute_process(COMMAND nm -D ${ABSL_SYNC} OUTPUT_VARIABLE ABSL_SYMBOLS COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "_ZN([0-9a-z]+)5Mutex4LockEv" _ "${ABSL_SYMBOLS}")
set(ABSL_NAMESPACE ${CMAKE_MATCH_1})
if(NOT ABSL_NAMESPACE)
  message(FATAL_ERROR "cannot find absl::Mutex::Lock in ${ABSL_SYNC}")
endif()

add_library(blobcache_tsan OBJECT ${CMAKE_CURRENT_LIST_DIR}/tsan_abseil.cc)
target_compile_definitions(blobcache_tsan PRIVATE BLOBCACHE_ABSL_NAMESPACE=${ABSL_NAMESPACE})
foreach(member IN ITEMS
    ZN/5Mutex4LockEv ZN/5Mutex10ReaderLockEv ZN/5Mutex6UnlockEv ZN/5Mutex12ReaderUnlockEv ZN/5Mutex7TryLockEv
    ZN/5Mutex5AwaitERKNS0_9ConditionE ZN/5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE
    ZN/5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE
    ZN/12Notification6NotifyEv ZNK/12Notification19WaitForNotificationEv
    ZNK/12Notification30WaitForNotificationWithTimeoutENS0_8DurationE ZN/6Status15UnrefNonInlinedEm)
  string(REPLACE "/" "${ABSL_NAMESPACE}" symbol ${member})
  list(APPEND TSAN_WRAP -Wl,--wrap=_${symbol})
endforeach()
link_libraries($<TARGET_OBJECTS:blobcache_tsan>)
add_link_options(${TSAN_WRAP})
