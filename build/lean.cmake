# Read by CMake right after llama-cpp-python's project() line (CMAKE_PROJECT_llama_cpp_INCLUDE).

# llama-cpp-python forces this on through the cache; a plain variable of the same name wins over the
# cache. Nothing we load uses the library, and it is nearly half of all compile steps.
set(LLAMA_BUILD_COMMON OFF)

# A wheel cannot hold symbolic links: each versioned name would be a full copy of its library, and a
# process that loads one library under two names has two of it, each with its own backend registry.
set(CMAKE_PLATFORM_NO_VERSIONED_SONAME ON)

include("${CMAKE_CURRENT_LIST_DIR}/masked_cells.cmake")
