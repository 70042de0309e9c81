/** What is told of a directory that is not used. */

/** Why a directory is not used, in words for the operator. */
export class DirectoryRefused extends Error {
  override readonly name: string = "DirectoryRefused";
}

/** Another process has it, and may give it up. */
export class DirectoryInUse extends DirectoryRefused {
  override readonly name = "DirectoryInUse";
}
