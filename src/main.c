/* main.c - the program's entry.
 *
 * Owns: nothing. Thread: the main thread. */
#include <signal.h>

#include "cli/cli.h"

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN); /* A client that goes away is an error of its request only. */
  return cg_cli_main(argc, argv);
}
