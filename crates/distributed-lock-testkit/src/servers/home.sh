# Waits until the process that holds the other end of its input has closed it, by dropping it or by
# dying. Then ends every process that works in the directory $1, and removes the directory.
read -r _
while
    pids=$(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1*" 2>/dev/null | cut -d/ -f3)
    [ -n "$pids" ]
do
    kill -KILL $pids 2>/dev/null
done
# A killed PostgreSQL leaves a piece of shared memory; the second word of this line is its number.
set -- "$1" $(sed -n 7p "$1/data/postmaster.pid" 2>/dev/null)
[ -n "$3" ] && ipcrm -m "$3" 2>/dev/null
rm -rf -- "$1"
