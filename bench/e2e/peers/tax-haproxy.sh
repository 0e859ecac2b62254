# Runs HAProxy with the script that is shipped.
sed 's/abns@countersign/abns@countersign-@PORT@/' @DATA@/../../deploy/proxies/haproxy-auth.lua >@STATE@/auth.lua
exec haproxy -db -f @STATE@/tax-haproxy.conf
