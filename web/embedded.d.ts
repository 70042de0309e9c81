/** Assets are embedded as text. */
declare module "*.css" {
  const text: string;
  export default text;
}
declare module "*.min.js" {
  const text: string;
  export default text;
}
declare module "*/app.js" {
  const text: string;
  export default text;
}
declare module "*/charts.js" {
  const text: string;
  export default text;
}
