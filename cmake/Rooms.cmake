# A room is one folder and one library. PRIVATE links keep third parties out of its users' sight.

# Most of what compiling a file takes is its headers. So a dozen files of a room are one to the compiler (and to
# clang-tidy), and two of them cannot have different things of the same name, not even in anonymous namespaces.
function(blobcache_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${BLOBCACHE_UNITY} UNITY_BUILD_BATCH_SIZE 12)
  if(BLOBCACHE_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It takes the files for headers, in which types of anonymous namespaces must not be members of others.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

# blobcache_room(<name> SOURCES ... [USES <rooms>...] [PRIVATE <libraries>...])
# USES are rooms (and Abseil targets) that the public headers include; PRIVATE is for .cc files alone.
function(blobcache_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;USES;PRIVATE" ${ARGN})
  add_library(blobcache_${name} STATIC ${ROOM_SOURCES})
  blobcache_unity(blobcache_${name})
  target_include_directories(blobcache_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(blobcache_${name}
    PUBLIC absl::status absl::statusor absl::time absl::span absl::any_invocable absl::inlined_vector ${ROOM_USES}
    PRIVATE blobcache_warnings absl::synchronization absl::flat_hash_map absl::flat_hash_set fmt::fmt
            spdlog::spdlog Threads::Threads ${ROOM_PRIVATE})
  if("blobcache_proto" IN_LIST ROOM_PRIVATE)
    blobcache_precompiled(blobcache_${name} rpc)
  else()
    blobcache_precompiled(blobcache_${name} room)
  endif()
endfunction()

# blobcache_unit_test(<name> [RACES] SOURCES ... LINKS <libraries>...): build/bin/<name>_test, run by ctest as
# unit/<name>. Target unit_tests has all of them. RACES: one of those that `make tsan` builds (target race_tests) and
# runs (label race).
add_custom_target(unit_tests)
add_custom_target(race_tests)
add_library(unit_main OBJECT EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/test/unit_main.cc)
target_link_libraries(unit_main PRIVATE blobcache_warnings doctest::doctest fmt::fmt spdlog::spdlog)
function(blobcache_unit_test name)
  cmake_parse_arguments(UNIT "RACES" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name}_test ${UNIT_SOURCES})
  blobcache_unity(${name}_test)
  target_link_libraries(${name}_test PRIVATE unit_main ${UNIT_LINKS} blobcache_warnings doctest::doctest
    absl::synchronization absl::flat_hash_map fmt::fmt spdlog::spdlog Threads::Threads)
  blobcache_precompiled(${name}_test test)
  add_test(NAME unit/${name} COMMAND ${name}_test)
  set_tests_properties(unit/${name} PROPERTIES LABELS unit TIMEOUT 900)
  add_dependencies(unit_tests ${name}_test)
  # Sanitizers look at memory; to wait for the disk meanwhile takes most of their tests' time, and many crashes show
  # them no more than a few.
  if(BLOBCACHE_SANITIZE)
    set_property(TEST unit/${name} PROPERTY ENVIRONMENT POWER_CUTS=5 ${SYMBOLIZER})
    if(IS_DIRECTORY /dev/shm)
      set_property(TEST unit/${name} APPEND PROPERTY ENVIRONMENT TMPDIR=/dev/shm)
    endif()
  endif()
  if(UNIT_RACES)
    set_tests_properties(unit/${name} PROPERTIES LABELS "unit;race")
    add_dependencies(race_tests ${name}_test)
  endif()
endfunction()
