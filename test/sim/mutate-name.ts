/** Where a process is told which planted bug it is to run with. */
export const MUTANT_VARIABLE = "VARIA_SIM_MUTANT";
