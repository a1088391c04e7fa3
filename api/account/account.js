// The link in the mail carries the code behind its #, which browsers send to nobody. Without this script it is typed in.
const field = document.querySelector('input[name=token]')
if (field && location.hash.length > 1) {
  field.value = decodeURIComponent(location.hash.slice(1))
  history.replaceState(null, '', location.pathname)
}
if (field && field.value) {
  document.getElementById('code').hidden = true
  document.querySelector('input[name=password]')?.focus()
}
