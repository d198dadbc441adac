# Reads "+DIR" (a server was made) and "-DIR" (it has been ended) and, when its standard
# input ends because the process that wrote to it is gone, ends the servers that are left.
# $1 is the script that ends one. In a process group of its own: Ctrl-C is for the others.
trap '' INT TERM HUP
left=()
while IFS= read -r line; do
  dir=${line:1}
  case $line in
  +*) left=("$dir" ${left[@]+"${left[@]}"}) ;;
  -*)
    rest=()
    for d in ${left[@]+"${left[@]}"}; do [ "$d" = "$dir" ] || rest+=("$d"); done
    left=(${rest[@]+"${rest[@]}"})
    ;;
  esac
done
for d in ${left[@]+"${left[@]}"}; do "$1" "$d"; done
