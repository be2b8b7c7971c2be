# Headers that most files include, parsed once a build and not once a file: two thirds of what compiling one of our
# files takes. No file may rely on them: `make lint` builds without, and checks what each file includes.

set(COMMON_HEADERS
  <algorithm> <array> <atomic> <chrono> <cstdint> <deque> <filesystem> <functional> <map> <memory> <mutex> <optional>
  <set> <string> <string_view> <thread> <utility> <vector>
  <absl/container/flat_hash_map.h> <absl/container/inlined_vector.h> <absl/functional/any_invocable.h>
  <absl/status/statusor.h> <absl/synchronization/mutex.h> <absl/time/time.h> <absl/types/span.h> <fmt/format.h>
  <spdlog/spdlog.h>)
set(COMMON_LIBRARIES absl::status absl::statusor absl::time absl::span absl::any_invocable absl::inlined_vector
  absl::synchronization absl::flat_hash_map fmt::fmt spdlog::spdlog Threads::Threads blobcache_warnings)

# precompiled_<set>: what carries the headers. A static library and a program differ in how they address code, so tests
# have a program's.
if(BLOBCACHE_PRECOMPILE)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/precompiled.cc CONTENT "")
  add_library(precompiled_room OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/precompiled.cc)
  add_library(precompiled_rpc OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/precompiled.cc)
  set(unit_main ${PROJECT_SOURCE_DIR}/test/unit_main.cc)
  add_executable(precompiled_test EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/precompiled.cc ${unit_main})
  set_source_files_properties(${unit_main} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  target_precompile_headers(precompiled_room PRIVATE ${COMMON_HEADERS})
  target_precompile_headers(precompiled_rpc PRIVATE ${COMMON_HEADERS} <grpcpp/grpcpp.h>)
  target_precompile_headers(precompiled_test PRIVATE ${COMMON_HEADERS} <doctest/doctest.h>)
  foreach(set room rpc test)
    target_link_libraries(precompiled_${set} PRIVATE ${COMMON_LIBRARIES})
  endforeach()
  target_link_libraries(precompiled_rpc PRIVATE PkgConfig::GRPCPP)
  target_link_libraries(precompiled_test PRIVATE doctest::doctest)
endif()

# blobcache_precompiled(<target> room|rpc|test): the target's files see that set.
function(blobcache_precompiled target set)
  if(BLOBCACHE_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM precompiled_${set})
  endif()
endfunction()
